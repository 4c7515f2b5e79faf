"""Models in a Hub cache on disk, from which they load offline by their Hub ids."""

from __future__ import annotations

import shutil
from pathlib import Path


def put(cache: Path, name: str, commit: str, folder: Path, *, branch: str = "main") -> str:
    """Put a model's folder into a cache as a commit of a repository; returns the repository's name.

    Args:
        cache: What HF_HUB_CACHE names.
        name: The repository, `owner/name`.
        commit: 40 hexadecimal digits.
        folder: With the model.
        branch: The branch or tag that stands for the commit.
    """
    repository = cache / f"models--{name.replace('/', '--')}"
    shutil.copytree(folder, repository / "snapshots" / commit)
    (repository / "refs").mkdir(exist_ok=True)
    (repository / "refs" / branch).write_text(commit)
    return name

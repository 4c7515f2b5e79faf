"""The record of how a store and its rows were made, so that they can be made again."""

from __future__ import annotations

import dataclasses
import hashlib
import platform
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.row import digest

if TYPE_CHECKING:
    from pipelines.settings import Invocation

PACKAGES = (
    "daq-msa", "torch", "torchaudio", "torchvision", "transformers", "diffusers", "peft", "accelerate",
    "datasets", "av", "decord2", "numpy", "pillow", "swift-f0", "facenet-pytorch",
)  # fmt: skip
# Files of which a model on the Hub has at least one: a pipeline, any other model, Chatterbox.
_HUB_FILES = ("model_index.json", "config.json", "s3gen.safetensors")


def versions(packages: tuple[str, ...] = PACKAGES) -> dict[str, str]:
    """Versions of Python and of the installed packages among these."""
    installed = {"python": platform.python_version()}
    for package in packages:
        with suppress(PackageNotFoundError):
            installed[package] = version(package)
    return installed


def folder_digest(folder: Path) -> str:
    """SHA-256 over the names and contents of the files in a checkpoint's folder, in hex."""
    digests = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                digests[_name(path.relative_to(folder))] = hashlib.file_digest(file, "sha256").hexdigest()
    return digest(digests)


@cache
def weights_digest(folder: Path) -> str:
    """`folder_digest` of weights that this process loads, which are gigabytes: computed once."""
    return folder_digest(folder)


def weights(name: str | Path, revision: str | None = None) -> dict[str, str]:
    """What identifies the weights of a model that this process has loaded.

    Args:
        name: Its folder, or its Hub id.
        revision: Of the Hub id; None for the default branch.

    Returns:
        `sha256` of the folder; or `commit`, which the revision stands for in the cache that Hub models are
        loaded from; or nothing if it is not there.
    """
    from huggingface_hub import try_to_load_from_cache

    if Path(name).is_dir():
        return {"sha256": weights_digest(Path(name))}
    cached = (try_to_load_from_cache(str(name), file, revision=revision) for file in _HUB_FILES)
    return next(({"commit": Path(file).parent.name} for file in cached if isinstance(file, str)), {})


def cached_weights(folder: Path) -> dict[str, dict[str, str]]:
    """As `weights`, by Hub id, for a program that keeps the models that it loads in a folder of its own."""
    made = {}
    for branch in sorted(folder.rglob("models--*/refs/main")):
        name = branch.parents[1].name.removeprefix("models--").replace("--", "/")
        made[name] = {"commit": branch.read_text(encoding="utf-8").strip()}
    return made


def _name(path: Path) -> str:
    """A path as text, also one whose name is no UTF-8."""
    return path.as_posix().encode(errors="backslashreplace").decode()


def record(
    invocation: Invocation[Any],
    *,
    stage: str,
    title: str,
    description: str,
    inputs: Any = None,
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """The settings of a stage's store.

    Args:
        invocation: The stage's command line.
        stage: The stage's name.
        title: The heading of the store's card.
        description: The card's first paragraph.
        inputs: Inputs that the rows depend on beside those in the tasks' keys.
        notes: Notes on the rows for the card; later stages keep them.
    """
    return {
        "stage": stage,
        "title": title,
        "description": description,
        "command": invocation.command,
        "seed": invocation.seed,
        "config": dataclasses.asdict(invocation.config),
        "inputs": inputs,
        "notes": list(notes),
        "versions": versions(),
    }

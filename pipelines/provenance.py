"""What made a store: the record in its `settings.json`, so that it can be made again."""

from __future__ import annotations

import dataclasses
import hashlib
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.row import digest

if TYPE_CHECKING:
    from pipelines.settings import Invocation

PACKAGES = (
    "daq-msa",
    "torch",
    "torchaudio",
    "transformers",
    "diffusers",
    "peft",
    "accelerate",
    "datasets",
    "av",
    "decord2",
    "numpy",
)


def versions(packages: tuple[str, ...] = PACKAGES) -> dict[str, str]:
    """Versions of Python and of those of the packages that are installed."""
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def folder_digest(folder: Path) -> str:
    """SHA-256 over the names and contents of the files in a checkpoint's folder, in hex."""
    digests = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                digests[path.relative_to(folder).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    return digest(digests)


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
        invocation: What the stage was asked to do.
        stage: Its name.
        title: The heading of the store's card.
        description: The card's first paragraph.
        inputs: What the stage read, if the rows depend on more of it than the tasks say.
        notes: What readers of the card should know of the rows; a later stage's store keeps them.
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

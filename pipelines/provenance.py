"""The record of how a store was made, in its `settings.json`, so that it can be made again."""

from __future__ import annotations

import dataclasses
import hashlib
import platform
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.row import digest

if TYPE_CHECKING:
    from pipelines.settings import Invocation

PACKAGES = (
    "daq-msa", "torch", "torchaudio", "transformers", "diffusers", "peft", "accelerate", "datasets", "av",
    "decord2", "numpy",
)  # fmt: skip


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

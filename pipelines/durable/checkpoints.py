"""Checkpoints that survive a power loss: on disk before the marker that vouches for them, verified when used.

A checkpoint is a folder. `seal` gets its files to the disk and writes its marker last, which holds the size
and the SHA-256 of each; `newest_whole` passes over what is not as its marker says. A training that needs one
file only saves it by `save_state`: a torch archive has a checksum for each of its records, and the state
before it stays beside it.
"""

from __future__ import annotations

import errno
import hashlib
import os
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipelines.atomic import DamagedFile, replacing, sweep, sync_folder, temporary_for
from pipelines.device import share
from pipelines.errors import RunError, reason
from pipelines.running.machine_faults import machine_fault, memory_is_short
from pipelines.store_files.checksums import unsealed, write_sealed
from pipelines.untrusted.plain_json import parsed_json

MARKER = "whole.json"
"""Written last into a checkpoint: without it the checkpoint is incomplete."""
# How libraries that write files report that they could not; none of these errors has an errno.
WRITE_ERRORS = ("SafetensorError", "PytorchStreamWriter", "inline_container", "iostream")


def fingerprints(folder: Path, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The size in bytes and the SHA-256 of files in a folder, by their names."""
    known = {}
    for name in names:
        with (folder / name).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        known[name] = {"bytes": (folder / name).stat().st_size, "sha256": digest}
    return known


def verify(folder: Path, known: dict[str, dict[str, Any]], *, content: bool = True) -> None:
    """Compare files with their fingerprints.

    Args:
        folder: Where they are.
        known: From `fingerprints`.
        content: Whether files are read, and not only their sizes compared.

    Raises:
        DamagedFile: At the first file that is missing, or has another size or content.
        OSError: If a file cannot be read: that says nothing about its content.
    """
    for name, wanted in known.items():
        path = folder / name
        if not path.is_file():
            raise DamagedFile(f"{path} is missing")
        if path.stat().st_size != wanted["bytes"]:
            raise DamagedFile(f"{path} has {path.stat().st_size} of its {wanted['bytes']} bytes")
        if content and fingerprints(folder, [name])[name] != wanted:
            raise DamagedFile(f"{path} has other content than was written")


def settle(folder: Path, names: Iterable[str]) -> None:
    """Get files and their folder to the disk, with the permissions that new files have by default.

    safetensors makes its files readable to their owner only.
    """
    sweep(folder, MARKER)
    probe = temporary_for(folder / MARKER)
    probe.touch()
    mode = probe.stat().st_mode
    probe.unlink()
    for name in names:
        with (folder / name).open("rb") as file:
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
    sync_folder(folder)


def settle_tree(folder: Path) -> list[str]:
    """As `settle`, all files in a folder and in those inside it; returns their names."""
    sweep(folder, MARKER)
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    settle(folder, names)
    for inner in (path for path in folder.rglob("*") if path.is_dir()):
        sync_folder(inner)
    return names


def seal(folder: Path, *, names: Iterable[str] | None = None, **about: Any) -> None:
    """Get files to the disk, then write the marker that vouches for them.

    Args:
        folder: The checkpoint.
        names: Its files that the marker vouches for; None for all.
        **about: What else the marker says.
    """
    (folder / MARKER).unlink(missing_ok=True)
    if names is None:
        names = settle_tree(folder)
    else:
        names = sorted(names)
        settle(folder, names)
    write_sealed(folder / MARKER, about | {"files": fingerprints(folder, names)})
    sync_folder(folder.parent)


def read_json_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file, without its digest if it has one.

    Raises:
        DamagedFile: If the file is missing, or holds no JSON object or another one than was written.
    """
    try:
        return unsealed(parsed_json(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, IsADirectoryError) as error:
        raise DamagedFile(f"{path} is missing") from error
    except ValueError as error:  # no UTF-8, or no JSON
        raise DamagedFile(f"{path} is broken ({reason(error)})") from error


def whole(folder: Path) -> dict[str, Any]:
    """The content of a checkpoint's marker, after its files were verified.

    Markers of earlier versions hold no fingerprints.

    Raises:
        DamagedFile: If the checkpoint is incomplete or a file of it is not what was written.
    """
    marker = read_json_object(folder / MARKER)
    verify(folder, marker.get("files", {}))
    return marker


def newest_whole(
    folder: Path, pattern: str, check: Callable[[Path], object] = whole
) -> tuple[Path | None, dict[Path, str]]:
    """The newest checkpoint that can be used.

    Args:
        folder: Holds the checkpoints; may be missing.
        pattern: Of their names, which end with a number behind a hyphen that rises with each.
        check: Raises `DamagedFile` for one that cannot be used.

    Returns:
        Its path, None if there is none; and what is wrong with each newer one.
    """
    broken: dict[Path, str] = {}
    numbered = [(path.name.rpartition("-")[2], path) for path in folder.glob(pattern)]
    for _, path in sorted(((int(n), path) for n, path in numbered if n.isdecimal()), reverse=True):
        try:
            check(path)
        except DamagedFile as error:
            broken[path] = str(error)
        else:
            return path, broken
    return None, broken


def save_state(path: Path, state: Any) -> None:
    """Save a training's state; that before it is kept beside it."""
    import torch

    with writing(path), replacing(path) as temporary:
        with temporary.open("wb") as file:
            torch.save(state, file)
            os.fsync(file.fileno())
        if path.exists():
            path.replace(before(path))
    sync_folder(path.parent)


def load_state(path: Path, what: str) -> Any:
    """The newest state that was saved under a path and is intact, on the CPU; None if there is none.

    One that is broken is passed over, which a line on stdout says; `what` is its beginning.
    """
    import torch

    broken = ""
    for each in (path, before(path)):
        if not each.is_file():
            continue
        try:
            with zipfile.ZipFile(each) as archive:
                wrong = archive.testzip()
            if wrong:
                raise DamagedFile(f"{wrong} in it has other content than was written")
            state = torch.load(each, weights_only=True, map_location="cpu")
        except (DamagedFile, zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
            broken = f"{what}: {each} is broken ({reason(error)})"
            continue
        _say(broken and f"{broken}; goes on from the state before it")
        return state
    _say(broken and f"{broken}, and no other state is left; begins anew")
    return None


def before(path: Path) -> Path:
    """Where the state before the one of this path is kept."""
    return path.with_name(f"{path.stem}-before{path.suffix}")


def remove_state(path: Path) -> None:
    """Remove a training's states."""
    for each in (path, before(path)):
        each.unlink(missing_ok=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns what libraries raise when they cannot write into one line that names the path.

    Nothing is written while memory is short: safetensors would abort the process and tell no error.

    Raises:
        RunError: If the disk is full, cannot be written to, or the like.
    """
    try:
        if memory_is_short():
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
        yield
    except Exception as error:
        words = f"{type(error).__name__}: {error}"
        if not isinstance(error, OSError) and not any(name in words for name in WRITE_ERRORS):
            raise
        cause = machine_fault(error) or f"{reason(error)}; free some space, or write to another disk"
        raise RunError(f"{path}: cannot be written ({cause}); the same command then goes on") from error


def _say(line: str) -> None:
    if line and share().rank == 0:
        print(line, flush=True)

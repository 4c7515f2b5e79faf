"""Checks where an import reads and writes, and that it has the memory and the handles, before it begins."""

from __future__ import annotations

import mmap
import os
from contextlib import suppress
from pathlib import Path

from pipelines.decoding.utf8 import is_utf8
from pipelines.errors import UsageError, reason
from pipelines.running.machine_faults import MachineFault, refuse_fault

# Address space that the libraries of an import take, and for each thread that waits for a decoder.
BASE_BYTES, THREAD_BYTES = 576 * 2**20, 64 * 2**20
# Open files beside those that a process begins with; a decoder has pipes, a process and a clip.
BASE_HANDLES, THREAD_HANDLES = 24, 6


def check_machine(threads: int) -> None:
    """Refuse to begin where memory or handles are too few.

    C++ libraries end their process when they get no memory, and Python's fork server tells a lack of handles
    by tracebacks of its own.

    Raises:
        MachineFault: If this process cannot get what an import takes.
    """
    _check_memory(threads)
    _check_handles(BASE_HANDLES + threads * THREAD_HANDLES)


def _check_memory(threads: int) -> None:
    needed = BASE_BYTES + threads * THREAD_BYTES
    try:
        mmap.mmap(-1, needed).close()
    except (OSError, MemoryError) as error:
        raise MachineFault(
            f"import: takes {needed // 2**20} MiB of memory, which this process cannot get; free memory or"
            " raise its limit (ulimit -v), and give the same command again"
        ) from error


def _check_handles(needed: int) -> None:
    opened: list[int] = []
    try:
        while len(opened) < needed:
            opened.append(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        raise MachineFault(
            f"import: opens {needed} files at once, of which this process can open {len(opened)}; raise the"
            " limit of open files (ulimit -n), and give the same command again"
        ) from error
    finally:
        for handle in opened:
            os.close(handle)


def check_places(src: str | None, out: Path, command: str) -> None:
    """Refuse a corpus that is not there, and a store that cannot be written there.

    Args:
        src: The corpus' folder, or its CSV; None of puppets, which are generated.
        out: The store's folder, which may not exist yet.
        command: The command line, which the store keeps.

    Raises:
        UsageError: The message names the setting.
    """
    for key, text in {"corpus.path": src or "", "--out": str(out), "the command line": command}.items():
        if not is_utf8(text):
            raise UsageError(f"{key}: {text!a} has bytes that are not UTF-8; rename it in UTF-8")
    if src is not None:
        _check_source(Path(src))
    _check_out(out)
    if src is not None:
        _check_apart(Path(src), out)


def make_folder(out: Path) -> None:
    """Make the store's folder.

    Raises:
        UsageError: If it cannot be made there.
        MachineFault: If that is the machine's fault.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        refuse_fault(error, f"--out: {out}")
        raise _no_place(out, error) from error


def _check_source(src: Path) -> None:
    advice = "give the corpus' folder, of `folder` its CSV"
    try:
        src.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UsageError(f"corpus.path: {src} does not exist; {advice}") from error
    except (OSError, ValueError) as error:
        raise UsageError(f"corpus.path: {src} cannot be read ({_told(error)}); {advice}") from error


def _check_apart(src: Path, out: Path) -> None:
    """A table may lie beside the store; a corpus' folder must be neither in it nor around it."""
    source, store = src.resolve(), out.resolve()
    if source.is_dir() and store.is_relative_to(source):
        raise UsageError(
            f"--out: {out} lies in the corpus' folder {src}, in which an import changes nothing; give a"
            " folder outside it"
        )
    if source.is_relative_to(store) and source != store:
        raise UsageError(f"--out: {out} holds the corpus {src}; give a folder of the store's own")


def _check_out(out: Path) -> None:
    try:
        place = next(each for each in (out, *out.absolute().parents) if os.path.lexists(each))
        if not place.is_dir():
            raise UsageError(f"--out: {place} is no folder; give a folder, which may not exist yet")
        if not os.access(place, os.W_OK | os.X_OK):
            raise UsageError(f"--out: {place} cannot be written in; give a folder in another place")
        with suppress(FileNotFoundError):
            (out / "parts").stat()  # fails where a name is too long for the disk
    except UsageError:
        raise
    except (OSError, ValueError) as error:
        raise _no_place(out, error) from error


def _no_place(out: Path, error: Exception) -> UsageError:
    return UsageError(f"--out: {out} cannot be made ({_told(error)}); give a folder in another place")


def _told(error: Exception) -> str:
    return getattr(error, "strerror", None) or reason(error)

"""Checks where an import reads and writes, and that it has the memory and the handles, before it begins."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

from pipelines.decoding.utf8 import is_utf8
from pipelines.errors import UsageError, reason
from pipelines.running.machine_faults import MachineFault
from pipelines.running.outputs import check_output

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
    """Refuse a corpus that is not there, a store in it or around it, and names that are not UTF-8.

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
    check_output(out, {})
    if src is not None:
        _check_source(Path(src))
        _check_apart(Path(src), out)


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


def _told(error: Exception) -> str:
    return getattr(error, "strerror", None) or reason(error)

"""Faults of the machine: memory, disk, handles, input and output, a package that cannot be imported.

They are no row's fault. They end a run with exit code 1, and the same command goes on once they are mended.
"""

from __future__ import annotations

import errno
import mmap
from collections.abc import Iterator

from pipelines.errors import RunError, reason

_ADVICE = {
    errno.ENOMEM: "free memory, or take a smaller batch or fewer processes",
    errno.EAGAIN: "let this user start more processes, or take fewer",
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some of your quota",
    errno.EIO: "check the disk",
    errno.EROFS: "write to a disk that can be written",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "close programs that hold files open",
} | {
    number: "check the disk, or the network that it is reached by"
    for name in ("ESTALE", "ENOTCONN", "ETIMEDOUT", "EHOSTDOWN", "EREMOTEIO", "ENODEV", "ENXIO")
    if (number := getattr(errno, name, None)) is not None  # not every system has all of them
}
# Errors without an errno are told by what their libraries write.
_TEXTS = {
    "can't allocate memory": errno.ENOMEM,  # torch on the CPU
    "you tried to allocate": errno.ENOMEM,
    "CUDA error: out of memory": errno.ENOMEM,
    "can't start new thread": errno.EAGAIN,
    "Failed to launch worker thread": errno.EAGAIN,  # Arrow
    "No space left on device": errno.ENOSPC,
}
_SHORT_BYTES = 64 * 2**20


class MachineFault(RunError):
    """The machine ended a run; nothing was decided about the rows that were not done."""


def machine_fault(error: BaseException) -> str | None:
    """What the machine lacks and what to do about it; None of an error that is not its fault.

    Args:
        error: It or one of its causes may be the machine's. Any error counts while memory is short, since
            libraries have many names for that.
    """
    for each in _causes(error):
        advice = _advice(each)
        if advice:
            return f"{_told(each)}; {advice}"
    return f"{_told(error)}, while memory is short; {_ADVICE[errno.ENOMEM]}" if memory_is_short() else None


def refuse_fault(error: BaseException, doing: str) -> None:
    """Raise a `MachineFault` in the place of an error that is the machine's, with what was being done."""
    fault = machine_fault(error)
    if fault:
        raise MachineFault(f"{doing}: {fault}; the same command then goes on") from error


def memory_is_short(needed: int = _SHORT_BYTES) -> bool:
    """Whether this process cannot get so many bytes more, by default 64 MiB."""
    try:
        mmap.mmap(-1, needed).close()
    except (OSError, MemoryError):
        return True
    return False


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {reason(error)}"


def _advice(error: BaseException) -> str | None:
    if type(error).__module__.partition(".")[0] == "av":
        return None  # FFmpeg has no memory and no input for many a broken file, too
    if isinstance(error, ImportError):
        return "see `daq-msa doctor`"
    # torch's class for a GPU is told by its name, since torch may not be loaded.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return _ADVICE[errno.ENOMEM]
    if isinstance(error, OSError) and error.errno in _ADVICE:
        return _ADVICE[error.errno]
    return next((_ADVICE[number] for text, number in _TEXTS.items() if text in str(error)), None)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        yield error
        seen.add(id(error))
        error = error.__cause__ or error.__context__

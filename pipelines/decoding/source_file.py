"""What may be read as a media file or a table: a regular file on a disk, after links are followed.

Pipes, devices and sockets may block or never end, and reading the files of /proc and /sys may fail like a
broken disk, or have effects.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

from pipelines.decoding import limits
from pipelines.decoding.utf8 import escaped
from pipelines.errors import reason
from pipelines.media_types import MediaError
from pipelines.running.machine_faults import refuse_fault

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_KERNEL_FOLDERS = ("/proc", "/sys")


def is_missing(path: Path) -> bool:
    """Whether nothing has this name. What else may be wrong with it is told by `opened`."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):
        return False
    return False


def opened(path: Path) -> BufferedReader:
    """Open a file for reading.

    Raises:
        MediaError: If it is no regular file, cannot be read, or is too large.
        MachineFault: If that is the machine's fault.
    """
    with _read(path):
        _check(path, path.stat())  # before it is opened: that alone may start a device
        file = open(path, "rb", opener=_open_at_once)  # noqa: SIM115
        try:
            _check(path, os.fstat(file.fileno()))  # it may be another one by now
        except MediaError:
            file.close()
            raise
        return file


def sha256(path: Path) -> str:
    """The SHA-256 of a file's content, in hex.

    Raises:
        MediaError, MachineFault: As `opened`.
    """
    with opened(path) as file, _read(path):
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_bytes(path: Path, most: int = -1) -> bytes:
    """The content of a file, or its first bytes.

    Raises:
        MediaError, MachineFault: As `opened`.
    """
    with opened(path) as file, _read(path):
        return file.read(most)


def _check(path: Path, found: os.stat_result) -> None:
    kind = stat.S_IFMT(found.st_mode)
    if kind != stat.S_IFREG:
        raise MediaError(f"{escaped(str(path))}: is {_KINDS.get(kind, 'of no known kind')}, wanted a file")
    for folder in _KERNEL_FOLDERS:
        if os.path.ismount(folder) and found.st_dev == Path(folder).stat().st_dev:
            raise MediaError(f"{escaped(str(path))}: lies in {folder}, wanted a file on a disk")
    if found.st_size > limits.MAX_BYTES:
        raise MediaError(f"{escaped(str(path))}: has {found.st_size} bytes, the limit is {limits.MAX_BYTES}")


def _open_at_once(path: str, flags: int) -> int:
    # Without it, opening a pipe that has taken the file's place waits for a writer.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


@contextmanager
def _read(path: Path) -> Iterator[None]:
    name = escaped(str(path))
    try:
        yield
    except MediaError:
        raise
    except (OSError, ValueError) as error:  # ValueError: the name holds NUL, or is not UTF-8
        refuse_fault(error, name)
        told = getattr(error, "strerror", None) or reason(error)
        raise MediaError(f"{name}: cannot be read ({told})") from error

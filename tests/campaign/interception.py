"""Every change of the file system that a program makes below one folder: counted, logged, interrupted.

The interception is a small library in C, `shim.c`, loaded by LD_PRELOAD, so that it sees pyarrow's, torch's
and safetensors' writers as it sees Python's. It must be there when a process starts: `ready` starts this one
again.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).with_name("shim.c")
# One number of threads in all, on which last bits depend; no network; nothing to ask of a terminal.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_XET": "1",
    "TOKENIZERS_PARALLELISM": "false", "PYTHONWARNINGS": "ignore",
}  # fmt: skip


EACH = -1


@dataclass(frozen=True)
class Fault:
    """What befalls a program.

    Attributes:
        change: The number of the change, from 1, before which it gets the signal; `EACH` for all of them, 0
            for none. Writes do not count.
        write: The number of the write in whose middle it gets the signal; 0 for none.
        signal: The signal.
        full_after: Bytes after which everything that needs space fails.
        error: The errno of that; 0 for none.
    """

    change: int = 0
    write: int = 0
    signal: int = 0
    full_after: int = 0
    error: int = 0


UNDISTURBED = Fault()


@dataclass(frozen=True)
class Change:
    """A change that was made: `path` and `other` are absolute; the inode and size are those after it."""

    what: str
    inode: int
    size: int
    path: str
    other: str


def compiler() -> str | None:
    """The C compiler, without which there is no interception."""
    return next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)


def ready(module: str, arguments: Sequence[str], folder: Path) -> None:
    """Start this process again as `python -m MODULE`, with the interception loaded; then do nothing.

    Args:
        module: The program.
        arguments: Its arguments.
        folder: Where the library is built.
    """
    if is_loaded():
        return
    folder.mkdir(parents=True, exist_ok=True)
    name = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:12]
    library = folder / f"shim-{name}.so"
    if not library.exists():
        command = [str(compiler()), "-O1", "-shared", "-fPIC", "-o", str(library), str(SOURCE), "-ldl"]
        subprocess.run(command, check=True)
    own = {"LD_PRELOAD": str(library), "HF_HOME": str(folder / "hub")}
    environment = os.environ | ENVIRONMENT | own
    os.execve(sys.executable, [sys.executable, "-m", module, *arguments], environment)


def is_loaded() -> bool:
    """Whether this process has the interception."""
    return hasattr(ctypes.CDLL(None), "campaign_arm")


def arm(folder: Path, fault: Fault, log: Path, saved: Path) -> None:
    """Begin, in this process and those that it forks.

    Args:
        folder: Whose changes count.
        fault: What is to happen.
        log: The file that the changes are written to.
        saved: A folder on the same file system, for links to files that lose their names.
    """
    for path in (log, saved):
        if folder in path.parents:
            raise ValueError(f"{path} is in {folder}, whose changes are counted")
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
    arguments: list[Any] = [
        os.fsencode(folder), ctypes.c_long(fault.change), ctypes.c_long(fault.write), fault.signal,
        descriptor, os.fsencode(saved), ctypes.c_long(fault.full_after), fault.error,
    ]  # fmt: skip
    ctypes.CDLL(None).campaign_arm(*arguments)


def changes(log: Path) -> list[Change]:
    """What a program changed, in order."""
    lines = log.read_text(encoding="utf-8", errors="surrogateescape").splitlines() if log.exists() else []
    fields = [line.split("\t") for line in lines]
    return [
        Change(what, int(inode), int(size), path, other)
        for what, inode, size, path, other in (each for each in fields if len(each) == 5)
    ]

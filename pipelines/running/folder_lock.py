"""One run at a time in a folder: a lock there that names its host and process.

The operating system drops the lock with its process, so one that was killed keeps nobody out. Locks of other
hosts may not be seen on network disks; there the file's age tells, which a run renews as long as it lives.
"""

from __future__ import annotations

import errno
import fcntl
import functools
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self, TypeAlias, TypeVar

from pipelines.atomic import make_folder, sweep
from pipelines.device import share
from pipelines.errors import RunError, UsageError, reason
from pipelines.running.machine_faults import refuse_fault
from pipelines.running.outputs import Content, check_content, check_output
from pipelines.settings import Invocation
from pipelines.untrusted.plain_json import parsed_json

logger = logging.getLogger(__name__)

NAME = "run.lock"
RENEW_S = 20.0
SILENT_S = 120.0  # a run of another host that has not renewed its lock for so long is taken for dead
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}  # disks without locks

Config = TypeVar("Config")
Result = TypeVar("Result")
Run: TypeAlias = Callable[[Invocation[Config]], Result]


class FolderBusy(RunError):
    """Another run works in the folder."""


@dataclass(frozen=True, kw_only=True)
class Holder:
    """The run that works in a folder."""

    host: str
    pid: int
    since: str
    """UTC, ISO 8601."""

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since}"


class FolderLock:
    """Inside a `with`, this run alone works in a folder; of its processes the first one holds the lock."""

    def __init__(self, directory: Path) -> None:
        self.path = Path(directory) / NAME
        self._file = -1
        self._is_new = False
        self._ended = threading.Event()

    def __enter__(self) -> Self:
        """Take the lock, also from a run that has died.

        Raises:
            FolderBusy: If another run holds it.
            UsageError: If there can be no such folder, or nothing can be written in it.
        """
        if share().rank > 0:
            return self
        folder = self.path.parent
        check_output(folder, {})
        there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        if not os.access(there, os.W_OK | os.X_OK):
            raise UsageError(f"--out: {there} cannot be written in; give a folder in another place")
        try:
            self._is_new = not folder.exists()
            make_folder(folder)
            while self._file < 0:
                self._file = self._taken()
            for each in (folder, *(path for path in folder.iterdir() if path.is_dir())):
                sweep(each, alone=True)
        except OSError as error:
            refuse_fault(error, f"--out: {folder}")
            done = "made" if self._is_new else "written in"
            told = error.strerror or reason(error)
            raise UsageError(f"--out: {folder} cannot be {done} ({told}); give another folder") from error
        own = Holder(
            host=socket.gethostname(), pid=os.getpid(), since=datetime.now(UTC).isoformat(timespec="seconds")
        )
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, json.dumps(asdict(own)).encode(), 0)
        threading.Thread(target=self._renew, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file >= 0:
            self._ended.set()
            self.path.unlink(missing_ok=True)
            os.close(self._file)
            if self._is_new:
                with suppress(OSError):  # if something was written
                    self.path.parent.rmdir()

    def _taken(self) -> int:
        """The locked file; -1 if it was removed meanwhile, by a run that has just ended."""
        file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if not _lock(file):
                raise FolderBusy(_busy(self.path.parent, _holder(file)))
            with suppress(FileNotFoundError):
                if self.path.stat().st_ino == os.fstat(file).st_ino:
                    self._take_over(file)
                    return file
        except BaseException:
            os.close(file)
            raise
        os.close(file)
        return -1

    def _take_over(self, file: int) -> None:
        before = _holder(file)
        if before is None:
            return
        if before.host != socket.gethostname() and _age_s(file) < SILENT_S:
            raise FolderBusy(_busy(self.path.parent, before))
        logger.warning("%s: taken over from %s, which has ended without a word", self.path.parent, before)

    def _renew(self) -> None:
        while not self._ended.wait(RENEW_S):
            with suppress(OSError):
                os.utime(self.path)


def holder(directory: Path) -> Holder | None:
    """The run that works in a folder, if one does; not to be asked by that run itself."""
    try:
        file = os.open(directory / NAME, os.O_RDWR)
    except OSError:
        return None
    try:
        found, is_free = _holder(file), _lock(file)
        if found is None or not is_free:
            return found
        lives_elsewhere = found.host != socket.gethostname() and _age_s(file) < SILENT_S
        return found if lives_elsewhere else None
    finally:
        os.close(file)


def alone_in_its_folder(makes: Content) -> Callable[[Run[Config, Result]], Run[Config, Result]]:
    """Let a stage's `run` hold the lock of the folder that it writes, which holds nothing of another kind."""

    def with_lock(run: Run[Config, Result]) -> Run[Config, Result]:
        @functools.wraps(run)
        def locked(invocation: Invocation[Config]) -> Result:
            with FolderLock(invocation.out):
                check_content(invocation.out, makes)
                return run(invocation)

        return locked

    return with_lock


def _lock(file: int) -> bool:
    """Lock a file, if no other process has; on disks without locks it always succeeds."""
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in _NO_LOCKS
    return True


def _holder(file: int) -> Holder | None:
    try:
        return Holder(**parsed_json(os.pread(file, 4096, 0)))
    except (ValueError, TypeError):
        return None  # new, or its run was killed before it had written its name


def _age_s(file: int) -> float:
    return time.time() - os.fstat(file).st_mtime


def _busy(directory: Path, found: Holder | None) -> str:
    return (
        f"{directory}: another run works there ({found or 'just begun'}); wait until it has ended, end it, or"
        " choose another folder"
    )

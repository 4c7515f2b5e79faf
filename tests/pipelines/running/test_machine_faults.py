"""What is the machine's fault ends a run, and is no row's."""

from __future__ import annotations

import errno
import os
import resource
import signal
from pathlib import Path
from typing import Any

import av
import pyarrow
import pytest

from pipelines.decoding.container import library_errors
from pipelines.decoding.isolation import Isolated
from pipelines.errors import RowError
from pipelines.media import MediaError
from pipelines.running import machine_faults
from pipelines.running.machine_faults import MachineFault, machine_fault, memory_is_short


def caused(error: BaseException) -> RowError:
    try:
        raise RowError("clip: cannot be read") from error
    except RowError as outer:
        return outer


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("of arrays"),
        OSError(errno.ENOSPC, "No space left on device", "a.parquet"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        OSError(errno.EIO, "Input/output error"),
        OSError(errno.EMFILE, "Too many open files"),
        OSError(errno.EROFS, "Read-only file system"),
        OSError(errno.ESTALE, "Stale file handle"),
        OSError(errno.ENOTCONN, "Transport endpoint is not connected"),  # of a FUSE disk whose server died
        TimeoutError(errno.ETIMEDOUT, "Connection timed out"),  # of a network disk
        OSError(errno.ENODEV, "No such device"),
        ModuleNotFoundError("No module named 'decord'"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
        type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("can't start new thread"),
        pyarrow.ArrowException(
            "Unknown error: Failed to launch worker thread: Resource temporarily unavailable"
        ),
        caused(OSError(errno.ENOSPC, "No space left on device")),
    ],
)
def test_the_machines_faults(error: BaseException) -> None:
    told = machine_fault(error)
    assert told is not None
    assert ";" in told


@pytest.mark.parametrize(
    "error",
    [
        ValueError("a broken clip"),
        FileNotFoundError(errno.ENOENT, "No such file or directory"),
        PermissionError(errno.EACCES, "Permission denied"),
        av.error.MemoryError(errno.ENOMEM, "Cannot allocate memory"),  # an absurd size in a broken file
        caused(ValueError("a broken clip")),
    ],
)
def test_faults_of_a_row(error: BaseException) -> None:
    assert machine_fault(error) is None


def test_any_error_counts_while_memory_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not memory_is_short()
    monkeypatch.setattr(machine_faults, "memory_is_short", lambda: True)
    assert "memory" in str(machine_fault(ValueError("Generic error in an external library")))


def test_a_library_that_fails_by_the_machines_fault_is_no_media_error() -> None:
    told = r"a\.mp4: OSError: .*free some space; the same command"
    with pytest.raises(MachineFault, match=told), library_errors("a.mp4", "breaks"):
        raise OSError(errno.ENOSPC, "No space left on device")
    told = r"a\.mp4: breaks \(of its own\)"
    with pytest.raises(MediaError, match=told), library_errors("a.mp4", "breaks"):
        raise ValueError("of its own")


def starved(how: str) -> Any:
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "ended":
        os._exit(3)
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (Path("/proc/self/statm").stat().st_size + 1, most))
    raise ValueError("Generic error in an external library")


@pytest.mark.parametrize(
    ("how", "told"),
    [("killed", "SIGKILL"), ("ended", "exit code 3"), ("starved", "Generic error .* while memory is short")],
)
def test_a_child_that_ends_by_the_machines_fault(how: str, told: str) -> None:
    with pytest.raises(MachineFault, match=told):
        Isolated(starved, limit_s=20)("a.mp4", how)

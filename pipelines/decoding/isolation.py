"""Calls a function in other processes: a decoder that crashes or hangs on a file costs that file alone."""

from __future__ import annotations

import ctypes
import multiprocessing
import signal
import sys
import threading
import weakref
from collections.abc import Callable
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from pipelines.errors import reason
from pipelines.media_types import MediaError
from pipelines.running.machine_faults import MachineFault, machine_fault, memory_is_short

try:
    import resource
except ImportError:  # Windows has none
    resource = None  # type: ignore[assignment]

# A fork server is safe beside threads; Windows has none.
_CONTEXT: Any = multiprocessing.get_context(
    "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
)
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h
_MIB = 2**20
_AMPLE_BYTES = 4096 * _MIB  # of memory for a process: with so much, no clip brings a decoder to its end
_LARGE_BYTES = 128 * _MIB  # what decoders ask for at a time is less
# Ends that a file can bring about. SIGKILL is a user's or the kernel's, for memory; an exit code is that of a
# process that could not begin.
_CRASHES = {"SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGTRAP", "SIGSYS"}


class Isolated:
    """A function, called in a process of its own: one for each thread that calls, kept from call to call.

    Args:
        function: At a module's top level, so that it can be pickled.
        limit_s: Seconds that a call may take.
    """

    def __init__(self, function: Callable[..., Any], limit_s: float) -> None:
        self._function, self._limit_s = function, limit_s
        # The server that children are forked from loads their modules once, while the caller goes on.
        _CONTEXT.set_forkserver_preload(["av", function.__module__, "pipelines.decoding.fork_server"])
        if _CONTEXT.get_start_method() == "forkserver":
            forkserver.ensure_running()
        self._thread = threading.local()

    def __call__(self, name: str, *arguments: Any, **options: Any) -> Any:
        """What the function returns or raises.

        Args:
            name: Of the file, for messages.
            arguments: Of the function, as are the options.

        Raises:
            MediaError: If the process crashes, or has to be ended.
            MachineFault: If the process cannot start or is killed.
        """
        child = getattr(self._thread, "child", None) or self._started()
        self._thread.child = None  # until it has answered: a new one is started after any other end
        try:
            child.connection.send((arguments, options))
            if not child.connection.poll(self._limit_s):
                _refuse_for_memory(f"{name}: is still being read after {self._limit_s:g} s")
                raise MediaError(f"{name}: is still being read after {self._limit_s:g} s; given up")
            result, error = child.connection.recv()
        except (EOFError, ConnectionError) as gone:
            end = child.end()
            if end not in _CRASHES or memory_is_short():
                raise MachineFault(
                    f"{name}: the process that decodes it has ended ({end}), as when memory is short; free"
                    " memory and give the same command again"
                ) from gone
            _refuse_for_memory(f"{name}: its decoder crashed ({end})")
            raise MediaError(f"{name}: its decoder crashed ({end})") from gone
        self._thread.child = child
        if error is not None:
            raise error
        return result

    def _started(self) -> _Child:
        try:
            return _Child(self._function)
        except (EOFError, OSError) as error:
            raise MachineFault(f"a process that decodes cannot be started ({error})") from error


class _Child:
    """A process that answers calls; it is killed once nothing refers to it."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.connection, other = _CONTEXT.Pipe()
        self._process = _CONTEXT.Process(target=_serve, args=(function, other), daemon=True)
        self._process.start()
        other.close()  # so that its end is seen here
        weakref.finalize(self, self._process.kill)

    def end(self) -> str:
        """Wait for its end; the signal or exit code of it."""
        self._process.join()
        code = self._process.exitcode or 0
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _serve(function: Callable[..., Any], connection: Connection) -> None:
    """In the child: answer until the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which ends this one
    _return_freed_memory()
    while True:
        try:
            arguments, options = connection.recv()
        except EOFError:
            return
        try:
            result, failure = function(*arguments, **options), None
        except Exception as error:
            fault = machine_fault(error) or _memory_ran_out(error)  # here, where it may have
            result, failure = None, MachineFault(fault) if fault else error
        connection.send((result, failure))


def _memory_limit() -> int | None:
    """The limit of a process' memory in bytes (ulimit -v); None without one."""
    if resource is None:
        return None
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if limit == resource.RLIM_INFINITY else limit


def _refuse_for_memory(told: str) -> None:
    """In the parent: take what ended a child for the machine's fault if its limit of memory is a low one."""
    limit = _memory_limit()
    if limit is not None and limit < _AMPLE_BYTES:
        raise MachineFault(
            f"{told}, as when memory is short: its limit is {limit // _MIB} MiB; raise it (ulimit -v) to"
            f" {_AMPLE_BYTES // _MIB} MiB and give the same command again"
        )


def _memory_ran_out(error: Exception) -> str | None:
    """In the child: what failed, if this process has been at the limit of its memory; else None.

    Decoders give back what they hold before they tell of an error, so that memory is not short any more.
    """
    limit = _memory_limit()
    if limit is None or sys.platform != "linux":
        return None
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    most = 1024 * int(status.partition("VmPeak:")[2].split()[0])
    if most < limit - _LARGE_BYTES:
        return None
    advice = "raise its limit (ulimit -v), and give the same command again"
    return f"{reason(error)}, while memory is short; {advice}"


def _return_freed_memory() -> None:
    """Let glibc return the memory of freed frames; by default it keeps more, the larger what was freed."""
    if sys.platform == "linux":
        set_option = getattr(ctypes.CDLL(None), "mallopt", None)
        if set_option is not None:  # other C libraries have none
            set_option(_M_MMAP_THRESHOLD, 32 * _MIB)
            set_option(_M_TRIM_THRESHOLD, 2 * _MIB)

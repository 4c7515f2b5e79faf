"""Calls a function in other processes: a decoder that crashes or hangs on a file costs that file alone."""

from __future__ import annotations

import multiprocessing
import signal
import threading
import weakref
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from pipelines.media_types import MediaError

# A fork server is safe beside threads; Windows has none.
_CONTEXT: Any = multiprocessing.get_context(
    "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
)


class Isolated:
    """A function, called in a process of its own: one for each thread that calls, kept from call to call.

    Args:
        function: At a module's top level, so that it can be pickled.
        limit_s: Seconds that a call may take.
    """

    def __init__(self, function: Callable[..., Any], limit_s: float) -> None:
        self._function, self._limit_s = function, limit_s
        self._thread = threading.local()

    def __call__(self, name: str, *arguments: Any) -> Any:
        """What the function returns or raises.

        Args:
            name: Of the file, for messages.
            arguments: Of the function.

        Raises:
            MediaError: If the process ends, or has to be ended.
        """
        child = getattr(self._thread, "child", None) or _Child(self._function)
        self._thread.child = None  # until it has answered: a new one is started after any other end
        child.connection.send(arguments)
        if not child.connection.poll(self._limit_s):
            raise MediaError(f"{name}: is still being read after {self._limit_s:g} s; given up")
        try:
            result, error = child.connection.recv()
        except EOFError as gone:
            raise MediaError(f"{name}: its decoder crashed ({child.end()})") from gone
        self._thread.child = child
        if error is not None:
            raise error
        return result


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
    while True:
        try:
            arguments = connection.recv()
        except EOFError:
            return
        try:
            result, failure = function(*arguments), None
        except Exception as error:
            result, failure = None, error
        connection.send((result, failure))

"""A program of another environment that answers lines of JSON with lines of JSON, over its stdin and stdout.

No shell starts it. A question has a deadline, and the program is killed when it passes, with what it
started itself. What it says on stderr goes to a file, whose end is in the message when it fails.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import threading
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

SAID_BYTES = 2_000
"""How much of the end of stderr is looked at for a message."""

ENDING_S = 1.0
"""How long a program that closed its stdout may take to end."""


class ProcessFailed(Exception):
    """The program died, hung, or answered what is no answer; it does not run any more."""


class JsonProcess:
    """A running program.

    Args:
        command: The program and its arguments.
        environment: Its whole environment.
        folder: Where it runs.

    Raises:
        OSError: If it cannot be started.
    """

    def __init__(self, command: Sequence[str], *, environment: Mapping[str, str], folder: Path) -> None:
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 (open as long as the program runs)
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            env=dict(environment),
            cwd=folder,
            text=True,
            encoding="utf-8",
            start_new_session=True,  # a group of its own, which is killed as a whole
        )
        self._asked = 0
        # Also when this program ends, or the object is dropped.
        self.close = weakref.finalize(self, _kill, self._process)

    def ask(self, question: Mapping[str, Any], timeout_s: float) -> dict[str, Any]:
        """Its answer to a question.

        Args:
            question: JSON; the key `id` is added.
            timeout_s: Seconds until it is killed.

        Returns:
            The answer, whose `id` is the question's.

        Raises:
            ProcessFailed: If there is none; the process is killed then.
        """
        self._asked += 1
        late = threading.Event()
        # A line is written and read as a whole, which blocks while the program hangs; killing it ends both.
        timer = threading.Timer(timeout_s, self._end_late, [late])
        timer.daemon = True
        timer.start()
        try:
            line = self._exchange(json.dumps({"id": self._asked, **question}))
        finally:
            timer.cancel()
        if not line.endswith("\n"):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(ENDING_S)  # its own exit code says more than that of being killed
            self.close()
            reason = (
                f"gave no answer within {timeout_s:g} s and was killed" if late.is_set() else self._died()
            )
            raise ProcessFailed(reason)
        return self._answer(line)

    def _end_late(self, late: threading.Event) -> None:
        late.set()
        _kill(self._process)

    def _exchange(self, line: str) -> str:
        """Write a line and read one; shorter than a line where the program ended."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        try:
            stdin.write(line + "\n")
            stdin.flush()
        except OSError:
            with contextlib.suppress(OSError):
                stdin.close()  # or the rest of the line is tried again later, where nobody expects it
        try:
            return stdout.readline()
        except UnicodeDecodeError:
            return "\ufffd\n"

    def _answer(self, line: str) -> dict[str, Any]:
        try:
            answer = json.loads(line)
        except json.JSONDecodeError:
            answer = None
        if not isinstance(answer, dict) or answer.get("id") != self._asked:
            self.close()
            raise ProcessFailed(
                f"answered {line.strip()[:80]!r}, wanted JSON with id {self._asked}; was killed"
            )
        return answer

    def _died(self) -> str:
        code = self._process.wait()
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return f"died ({how}); it last said: {_last_line(self._said) or 'nothing'}"


def _kill(process: subprocess.Popen[str]) -> None:
    """End a program and what it started, and wait for its end."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.wait()


def _last_line(said: IO[bytes]) -> str:
    said.seek(0, os.SEEK_END)
    said.seek(max(0, said.tell() - SAID_BYTES))
    lines = said.read().decode("utf-8", "replace").strip().splitlines()
    return lines[-1].strip() if lines else ""

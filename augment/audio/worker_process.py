"""A program in another environment that answers lines of JSON with lines of JSON, over stdin and stdout.

No shell starts it. Each question has a deadline, at which the program and everything that it started are
killed. Its stderr goes to a file, whose last line is in the message if it fails.
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
from typing import Any

from pipelines.untrusted.plain_json import parsed_json

STDERR_BYTES = 2_000  # of the end of stderr, searched for the last line
ENDING_S = 1.0  # how long a program that closed its stdout may take to end


class ProcessFailed(Exception):
    """The program died, hung, or gave an invalid answer; it is not running any more."""


class JsonProcess:
    """A running program.

    Args:
        command: The program and its arguments.
        environment: Its whole environment.
        folder: Its working directory.

    Raises:
        OSError: If it cannot be started.
    """

    def __init__(self, command: Sequence[str], *, environment: Mapping[str, str], folder: Path) -> None:
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 (open as long as the program runs)
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env=dict(environment),
            cwd=folder,
            text=True,
            encoding="utf-8",
            start_new_session=True,  # a process group of its own, which is killed as a whole
        )
        self._questions = 0
        # Also called when this program ends, or the object is garbage collected.
        self.close = weakref.finalize(self, _kill, self._process)

    def ask(self, question: Mapping[str, Any], timeout_s: float) -> dict[str, Any]:
        """Ask a question.

        Args:
            question: JSON; the key `id` is added.
            timeout_s: Seconds until the program is killed.

        Returns:
            The answer, whose `id` is the question's.

        Raises:
            ProcessFailed: If there is no valid answer; the process is killed then.
        """
        self._questions += 1
        late = threading.Event()

        def kill_late() -> None:
            late.set()
            _kill(self._process)

        # Writing and reading a line block while the program hangs; killing it ends both.
        timer = threading.Timer(timeout_s, kill_late)
        timer.daemon = True
        timer.start()
        try:
            line = self._exchange(json.dumps({"id": self._questions, **question}))
        finally:
            timer.cancel()
        if not line.endswith("\n"):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(ENDING_S)  # its own exit code says more than that of being killed
            self.close()
            killed = f"gave no answer within {timeout_s:g} s and was killed"
            raise ProcessFailed(killed if late.is_set() else self._cause_of_death())
        try:
            answer = parsed_json(line)
        except json.JSONDecodeError:
            answer = None
        if not isinstance(answer, dict) or answer.get("id") != self._questions:
            self.close()
            raise ProcessFailed(
                f"answered {line.strip()[:80]!r}, wanted JSON with id {self._questions}; was killed"
            )
        return answer

    def _exchange(self, line: str) -> str:
        """Write a line and read one; it has no line end if the program ended."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        try:
            stdin.write(line + "\n")
            stdin.flush()
        except OSError:
            with contextlib.suppress(OSError):
                stdin.close()  # else the rest of the line would be written again when stdin is collected
        try:
            return stdout.readline()
        except UnicodeDecodeError:
            return "\ufffd\n"

    def _cause_of_death(self) -> str:
        code = self._process.wait()
        cause = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(0, self._stderr.tell() - STDERR_BYTES))
        lines = self._stderr.read().decode("utf-8", "replace").strip().splitlines() or ["nothing"]
        return f"died ({cause}); it last said: {lines[-1].strip()}"


def _kill(process: subprocess.Popen[str]) -> None:
    """Kill a program and everything that it started, and wait for its end."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.wait()

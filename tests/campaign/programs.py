"""Programs of this package, each forked from a process that has imported what they import.

Started anew, each would take ten seconds of a core for that. The forked process is otherwise what a user's
is: the module's `__main__`, its own session, its output in files, its exit handlers.
"""

from __future__ import annotations

import atexit
import faulthandler
import gc
import importlib
import io
import logging
import os
import runpy
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from contextlib import redirect_stderr, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from pipelines.errors import UsageError
from tests.campaign.interception import UNDISTURBED, Change, Fault, arm, changes

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 60.0
GRACE_S = 3.0  # in which the processes of a program that has ended must have ended, too
IMPORTED = (
    "torch", "transformers.trainer", "transformers", "diffusers", "peft", "datasets", "pyarrow.parquet",
    "av", "accelerate.commands.launch", "matplotlib.figure", "matplotlib.backends.backend_svg", "jinja2",
    "huggingface_hub", "torch.distributed.run", "torch.optim", "pipelines.__main__", "pipelines.importing",
    "pipelines.decoding.reencoding", "pipelines.report.page", "pipelines.hub", "augment.run",
    "augment.video.variants", "augment.audio.variants", "augment.voice_conversion", "augment.fatezero",
    "score.run", "finetune.run", "finetune.evaluation", "finetune.prediction", "finetune.fusion.run",
)  # fmt: skip


@dataclass(frozen=True)
class Ended:
    """How a program ended.

    Attributes:
        code: Its exit code; the negative number of a signal; None if it had to be killed after `TIMEOUT_S`.
        told: What it wrote to stdout and stderr.
        changes: The changes that it made below the watched folder.
        orphans: Processes of it that were alive `GRACE_S` after its end.
        peak_mb: The most memory that it had, in MiB, with what it was forked with.
    """

    code: int | None
    told: str
    changes: list[Change]
    orphans: int = 0
    peak_mb: int = 0


def warm_up(commands: Iterable[Sequence[str]] = ()) -> None:
    """Import what the programs import; what they then share is not looked at by the garbage collector.

    Args:
        commands: Modules, each with its arguments. Their parsers of settings are made here, once:
            that is a third of a short run.
    """
    for name in IMPORTED:
        importlib.import_module(name)
    settings = importlib.import_module("pipelines.settings")
    settings._parser = _once(settings._parser)
    for module, *arguments in commands:
        main = _main(module)
        with suppress(SystemExit, UsageError), redirect_stderr(io.StringIO()):
            main([*arguments, "--no-such-option"])
    gc.collect()
    gc.freeze()


class Program:
    """`python -m MODULE`, running.

    Args:
        module: As in `python -m MODULE`.
        arguments: Its arguments.
        folder: The folder whose changes count.
        scratch: A folder for its output, the log of changes, and files that lost their names.
        fault: What befalls it.
        variables: Added to the environment.
        prepare: Called in the new process first, to limit it.
    """

    def __init__(
        self,
        module: str,
        arguments: Sequence[str],
        *,
        folder: Path,
        scratch: Path,
        fault: Fault = UNDISTURBED,
        variables: dict[str, str] | None = None,
        prepare: Callable[[], None] | None = None,
    ) -> None:
        self.scratch = scratch
        (scratch / "saved").mkdir(parents=True, exist_ok=True)
        self.pid = os.fork()
        if self.pid == 0:
            code = 70
            try:
                self._redirect()
                os.environ.update(variables or {})
                arm(folder, fault, scratch / "changes", scratch / "saved")
                if prepare:
                    prepare()
                code = _run(module, arguments)
            finally:
                os._exit(code)
        self._code: int | None = None
        self._peak_kb = 0

    def wait(self, timeout_s: float = TIMEOUT_S) -> Ended:
        """Wait for its end; whatever is left of it is killed."""
        self._poll(timeout_s, os.WNOHANG)
        orphans = 0
        if self._code is not None:
            deadline = time.monotonic() + GRACE_S
            while (left := self._members()) and time.monotonic() < deadline:
                time.sleep(0.02)
            orphans = len(left)
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        if self._code is None:
            self._peak_kb = os.wait4(self.pid, 0)[2].ru_maxrss
        return Ended(self._code, self.told(), self.changes(), orphans, self._peak_kb // 1024)

    def stopped(self, timeout_s: float = TIMEOUT_S) -> bool:
        """Wait until it has stopped, by SIGSTOP; False if it has ended before."""
        return self._poll(timeout_s, os.WNOHANG | os.WUNTRACED)

    def go_on(self) -> None:
        """Let it go on after a stop."""
        os.kill(self.pid, signal.SIGCONT)

    def changes(self) -> list[Change]:
        """The changes that it has made so far."""
        return changes(self.scratch / "changes")

    def told(self) -> str:
        """What it has written so far."""
        files = [self.scratch / name for name in ("stdout", "stderr")]
        return "".join(file.read_text(errors="replace") for file in files if file.exists())

    def _poll(self, timeout_s: float, options: int) -> bool:
        deadline = time.monotonic() + timeout_s
        while self._code is None and time.monotonic() < deadline:
            pid, status, usage = os.wait4(self.pid, options)
            if pid and os.WIFSTOPPED(status):
                return True
            if pid:
                self._code, self._peak_kb = os.waitstatus_to_exitcode(status), usage.ru_maxrss
            else:
                time.sleep(0.001)
        return False

    def _members(self) -> list[int]:
        members = []
        for pid in psutil.pids():
            with suppress(ProcessLookupError, psutil.NoSuchProcess):
                if os.getsid(pid) == self.pid and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                    members.append(pid)
        return members

    def _redirect(self) -> None:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for number, name in enumerate(("stdout", "stderr"), start=1):
            os.dup2(os.open(self.scratch / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND), number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        faulthandler.enable(sys.__stderr__)


def _main(module: str) -> Callable[[list[str]], None]:
    """The function that a program begins with."""
    found = getattr(importlib.import_module(module), "main", None)
    return found or importlib.import_module(f"{module}.__main__").main


def _once(make: Callable[..., Any]) -> Callable[..., Any]:
    """A function that makes the same thing once, also of arguments that have no hash."""
    made: dict[str, Any] = {}

    def kept(*arguments: Any) -> Any:
        key = repr(arguments)
        if key not in made:
            made[key] = make(*arguments)
        return made[key]

    return kept


def _run(module: str, arguments: Sequence[str]) -> int:
    """In the new process: be the program; its exit code."""
    logging.root.handlers.clear()
    os.chdir(ROOT)
    sys.stdout, sys.stderr = (open(number, "w", buffering=1, closefd=False) for number in (1, 2))  # noqa: SIM115
    sys.argv = [module, *arguments]
    code = 0
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1 if end.code else 0
    except BaseException as error:
        traceback.print_exc()
        code = 130 if isinstance(error, KeyboardInterrupt) else 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    return code

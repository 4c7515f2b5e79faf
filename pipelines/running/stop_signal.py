"""SIGTERM and Ctrl-C: a program stops where it can be resumed, says so, and leaves no process behind."""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any, Self

SIGNALS = (signal.SIGTERM, signal.SIGINT)
# Set by launchers (`pipelines.running.launching`, accelerate, torchrun) for the processes that they start.
LAUNCHED = ("DAQ_MSA_LAUNCHED", "ACCELERATE_MIXED_PRECISION", "TORCHELASTIC_RUN_ID")
WATCH_S = 1.0
GRACE_S = 60.0  # for a process whose launcher has died to stop by itself


class StopSignal:
    """Inside a `with`, records a signal to stop instead of ending the process."""

    def __init__(self) -> None:
        self.came = False
        self.name = ""
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # no other thread may set handlers
            self._before = {each: signal.signal(each, self._note) for each in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for each, handler in self._before.items():
            signal.signal(each, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.came, self.name = True, signal.Signals(number).name


def interrupt_on_signals() -> None:
    """Let the first SIGTERM or Ctrl-C raise KeyboardInterrupt; those that follow are ignored meanwhile."""
    if threading.current_thread() is threading.main_thread():
        for each in SIGNALS:
            if signal.getsignal(each) in (signal.SIG_DFL, signal.default_int_handler):
                signal.signal(each, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> None:
    for each in SIGNALS:
        signal.signal(each, _ignore)
    raise KeyboardInterrupt


def _ignore(number: int, frame: FrameType | None) -> None:
    """Do nothing. With SIG_IGN, Python prints a traceback for a signal that came just before it was set."""


def end_with_launcher() -> None:
    """If a launcher started this process, watch it: torch's leaves its workers behind when it is killed."""
    if any(name in os.environ for name in LAUNCHED):
        threading.Thread(target=_watch, args=(os.getppid(),), daemon=True).start()


def _watch(launcher: int) -> None:
    while os.getppid() == launcher:
        time.sleep(WATCH_S)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    os._exit(1)

"""Starts the programs of a run, each as one process or several, and stops them with it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence

from pipelines.errors import RunError, UsageError
from pipelines.running.stop_signal import StopSignal

POLL_S = 0.05
GRACE_S = 60.0  # for a program to stop by itself after SIGTERM


def launch(name: str, arguments: Sequence[str], *, processes: int = 1, **environment: str) -> None:
    """Run a Python program to its end, with `environment` added to this process' own.

    Several processes find each other by the variables that torchrun and accelerate set.

    Raises:
        UsageError: If it exited with code 2, after printing the reason.
        RunError: If it failed otherwise, or was stopped.
    """
    shared = os.environ | environment | {"DAQ_MSA_LAUNCHED": "1"}
    if processes > 1:
        shared |= {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes)}
        shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
    with StopSignal() as stop:
        started = []
        for rank in range(processes):
            own = {"RANK": str(rank), "LOCAL_RANK": str(rank)} if processes > 1 else {}
            started.append(subprocess.Popen([sys.executable, *arguments], env=shared | own))
        code = _ended(started, stop)
    if stop.came:
        raise RunError(f"{name} was stopped by {stop.name}")
    if code == 2:
        raise UsageError(f"{name} was not started, for the reason above")
    if code:
        ended = f"by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        raise RunError(f"{name} failed ({ended})")


def _ended(processes: Sequence[subprocess.Popen[bytes]], stop: StopSignal) -> int:
    """Wait for all, and stop them once one fails or a signal comes; the first exit code that is not 0."""
    failed, deadline = 0, None
    while True:
        codes = [process.poll() for process in processes]
        failed = failed or next((code for code in codes if code), 0)
        if None not in codes:
            return failed
        if deadline is None and (failed or stop.came):
            deadline = time.monotonic() + GRACE_S
            _signal(processes, signal.SIGTERM)
        if deadline is not None and time.monotonic() > deadline:
            _signal(processes, signal.SIGKILL)
        time.sleep(POLL_S)


def _signal(processes: Sequence[subprocess.Popen[bytes]], number: signal.Signals) -> None:
    for process in processes:
        if process.poll() is None:
            process.send_signal(number)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])

"""Stages as users start them: by a command, killed on its way, or as two processes under accelerate."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[1]
TIMEOUT_S = 120.0
MULTI_GPU = ("--multi_gpu",)


def run(module: str, arguments: Sequence[str]) -> str:
    """Run `python -m MODULE` to its end; its stdout."""
    return _told(_command(module, arguments))


def run_two(module: str, arguments: Sequence[str], launcher: Sequence[str] = MULTI_GPU) -> str:
    """Run a module as two processes, as `accelerate launch` starts them for two GPUs; its stdout.

    Args:
        module: As in `python -m MODULE`.
        arguments: Its arguments.
        launcher: What accelerate is told beside the number of processes.
    """
    return _told(_command(module, arguments, ranks=2, launcher=launcher))


def _told(command: Sequence[str]) -> str:
    done = subprocess.run(
        command, cwd=ROOT, check=True, env=_environment(), stdout=subprocess.PIPE, text=True
    )
    print(done.stdout)
    # Older versions of torch tell there of their connections.
    return "".join(line for line in done.stdout.splitlines(True) if not line.startswith("[Gloo]"))


def kill(module: str, arguments: Sequence[str], *, once: Callable[[], object]) -> None:
    """Run `python -m MODULE` and kill it, by SIGKILL, as soon as `once()` holds."""
    with _started(_command(module, arguments)) as process:
        _wait(process, module, once)


def terminate(
    module: str,
    arguments: Sequence[str],
    *,
    once: Callable[[], object],
    ranks: int = 1,
    only_rank: int | None = None,
    launcher: Sequence[str] = MULTI_GPU,
) -> tuple[int, str]:
    """Run a module and end it, by SIGTERM, as soon as `once()` holds.

    Args:
        module: As in `python -m MODULE`.
        arguments: Its arguments.
        once: When to send the signal.
        ranks: Processes; two are started as by `run_two`, and the launcher gets the signal.
        only_rank: The rank that gets the signal, and not the launcher.
        launcher: As of `run_two`.

    Returns:
        The exit code, and what was said on stderr.
    """
    command = _command(module, arguments, ranks=ranks, launcher=launcher)
    with _started(command, stderr=subprocess.PIPE) as process:
        _wait(process, module, once)
        if only_rank is None:
            process.terminate()
        else:
            started = psutil.Process(process.pid).children(recursive=True)
            next(child for child in started if child.environ().get("RANK") == str(only_rank)).terminate()
        _, said = process.communicate(timeout=TIMEOUT_S)
        return process.returncode, said


@contextmanager
def _started(command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A process that is running; it and its children are killed at the end of the `with`."""
    process = subprocess.Popen(command, cwd=ROOT, env=_environment(), text=True, errors="replace", **options)
    try:
        yield process
    finally:
        if process.poll() is None:
            for running in (*psutil.Process(process.pid).children(recursive=True), process):
                running.kill()
            process.wait()


def _command(
    module: str, arguments: Sequence[str], *, ranks: int = 1, launcher: Sequence[str] = MULTI_GPU
) -> list[str]:
    if ranks == 1:
        return [sys.executable, "-m", module, *arguments]
    start = ["-m", "accelerate.commands.launch", *launcher, "--num_processes", str(ranks)]
    start += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    return [sys.executable, *start, "-m", module, *arguments]


def _environment() -> dict[str, str]:
    # One number of threads in all, on which last bits depend; a process that aborts tells where it was.
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "1"}


def _wait(process: subprocess.Popen[Any], module: str, once: Callable[[], object]) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not once():
        assert process.poll() is None, f"{module} ended before it was to be ended"
        assert time.monotonic() < deadline, f"{module} took longer than {TIMEOUT_S:g} s"
        time.sleep(0.01)

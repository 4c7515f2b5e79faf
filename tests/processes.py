"""Stages as users start them: by a command, killed on its way, or as two processes under accelerate."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TIMEOUT_S = 120.0


def run(module: str, arguments: Sequence[str]) -> None:
    """Run `python -m MODULE` to its end."""
    subprocess.run([sys.executable, "-m", module, *arguments], cwd=ROOT, check=True)


def kill(module: str, arguments: Sequence[str], *, once: Callable[[], object]) -> None:
    """Run `python -m MODULE` and kill it, by SIGKILL, as soon as `once()` holds."""
    process = subprocess.Popen([sys.executable, "-m", module, *arguments], cwd=ROOT)
    deadline = time.monotonic() + TIMEOUT_S
    while not once():
        assert process.poll() is None, f"{module} ended before it was killed"
        assert time.monotonic() < deadline, f"{module} took longer than {TIMEOUT_S:g} s"
        time.sleep(0.01)
    process.kill()
    process.wait()


def run_two(module: str, arguments: Sequence[str]) -> None:
    """Run a module as two processes, as `accelerate launch` starts them for two GPUs."""
    launcher = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    launcher += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    command = [sys.executable, *launcher, "-m", module, *arguments]
    subprocess.run(command, cwd=ROOT, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})

"""Stages as users start them: by a command, killed on its way, or as two processes under accelerate.

Each program is a process of its own, forked from one that has imported torch and transformers before: started
anew, each would take ten seconds of a core for that, which was half the time of all tests.
"""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import runpy
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.forkserver import ensure_running
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

import psutil

ROOT = Path(__file__).resolve().parents[1]
TIMEOUT_S = 120.0
MULTI_GPU = ("--multi_gpu",)
# One number of threads in all, on which last bits depend.
THREADS = {"OMP_NUM_THREADS": "1"}
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    [
        "torch",
        "torch.distributed.run",
        "transformers.trainer",
        "peft",
        "accelerate.commands.launch",
        "datasets",
    ]
)


def run(module: str, arguments: Sequence[str]) -> str:
    """Run `python -m MODULE` to its end; its stdout."""
    with _started([_Program(module, arguments)]) as programs:
        return _told(programs)


def run_two(module: str, arguments: Sequence[str], launcher: Sequence[str] = MULTI_GPU) -> str:
    """Run a module as two processes, as `accelerate launch` starts them for two GPUs; their stdout.

    Args:
        module: As in `python -m MODULE`.
        arguments: Its arguments.
        launcher: What accelerate is told beside the number of processes. As it is by default, the launcher
            itself is left out, and both processes get the variables that it would set.
    """
    started = _ranks(module, arguments) if launcher == MULTI_GPU else [_launched(module, arguments, launcher)]
    with _started(started) as programs:
        # Older versions of torch tell there of their connections.
        return "".join(line for line in _told(programs).splitlines(True) if not line.startswith("[Gloo]"))


def kill(module: str, arguments: Sequence[str], *, once: Callable[[], object]) -> None:
    """Run `python -m MODULE` and kill it, by SIGKILL, as soon as `once()` holds."""
    with _started([_Program(module, arguments)]) as programs:
        _wait(programs, once)


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
        ranks: Processes; the launcher of two gets the signal.
        only_rank: The rank that gets the signal, without a launcher.
        launcher: As of `run_two`.

    Returns:
        The exit code, and what was said on stderr.
    """
    if ranks == 1:
        started = [_Program(module, arguments)]
    elif only_rank is None:
        started = [_launched(module, arguments, launcher)]
    else:
        started = _ranks(module, arguments)
    with _started(started) as programs:
        _wait(programs, once)
        programs[only_rank or 0].process.terminate()
        code = _ended(programs)
        return code, "".join(program.said() for program in programs)


class _Program:
    """`python -m MODULE`, to be forked; `variables` are added to the environment."""

    def __init__(self, module: str, arguments: Sequence[str], **variables: str) -> None:
        self.module = module
        self._arguments = [str(argument) for argument in arguments]
        self._environment = os.environ | THREADS | variables
        self._folder = TemporaryDirectory()
        self._streams = [Path(self._folder.name) / name for name in ("stdout", "stderr")]
        self.process: BaseProcess = _FORKS.Process(target=self)

    def __getstate__(self) -> dict[str, object]:
        """What the new process is told; process and folder stay with this one."""
        return {name: value for name, value in vars(self).items() if name not in ("process", "_folder")}

    def __call__(self) -> None:
        """In the new process: be the program."""
        os.environ.clear()
        os.environ.update(self._environment)
        os.chdir(ROOT)
        for number, file in enumerate(self._streams, start=1):
            os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
        faulthandler.enable()  # a process that aborts tells where it was
        sys.path.insert(0, str(ROOT))
        sys.argv = [self.module, *self._arguments]
        runpy.run_module(self.module, run_name="__main__", alter_sys=True)

    def told(self) -> str:
        """What it wrote to stdout."""
        return self._read(0)

    def said(self) -> str:
        """What it wrote to stderr."""
        return self._read(1)

    def _read(self, stream: int) -> str:
        file = self._streams[stream]
        return file.read_text(errors="replace") if file.exists() else ""


def _ranks(module: str, arguments: Sequence[str]) -> list[_Program]:
    """Two processes that find each other, by the variables that accelerate's launcher sets."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {
        "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
        "ACCELERATE_MIXED_PRECISION": "no", "ACCELERATE_DYNAMO_BACKEND": "no",
    }  # fmt: skip
    return [_Program(module, arguments, RANK=rank, LOCAL_RANK=rank, **shared) for rank in ("0", "1")]


def _launched(module: str, arguments: Sequence[str], launcher: Sequence[str]) -> _Program:
    start = [*launcher, "--num_processes", "2", "--num_machines", "1"]
    start += ["--mixed_precision", "no", "--dynamo_backend", "no"]
    return _Program("accelerate.commands.launch", [*start, "-m", module, *arguments])


@contextmanager
def _started(programs: list[_Program]) -> Iterator[list[_Program]]:
    """Programs that are running; they and their children are killed at the end of the `with`."""
    with mock.patch.dict(os.environ, THREADS):  # torch reads it when it is imported
        ensure_running()
    for program in programs:
        program.process.start()
    try:
        yield programs
    finally:
        for program in programs:
            _kill(program.process)
            sys.stdout.write(program.told())
            sys.stderr.write(program.said())


def _kill(process: BaseProcess) -> None:
    if process.exitcode is None:
        for running in (*psutil.Process(process.pid).children(recursive=True), process):
            running.kill()
    process.join()


def _told(programs: list[_Program]) -> str:
    code, told = _ended(programs), "".join(program.told() for program in programs)
    if code:
        raise subprocess.CalledProcessError(code, programs[0].module, told)
    return told


def _ended(programs: list[_Program]) -> int:
    """Wait for all; the first exit code that is not 0, with which the others are killed."""
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        codes = [program.process.exitcode for program in programs]
        failed = [code for code in codes if code]
        if failed:
            _settle(programs)
            return failed[0]
        if None not in codes:
            return 0
        assert time.monotonic() < deadline, f"{programs[0].module} took longer than {TIMEOUT_S:g} s"
        time.sleep(0.01)


def _settle(programs: list[_Program]) -> None:
    """One has failed: give the others, which may wait for it, time to say why they end."""
    for program in programs:
        program.process.join(timeout=5)
        _kill(program.process)


def _wait(programs: list[_Program], once: Callable[[], object]) -> None:
    deadline, module = time.monotonic() + TIMEOUT_S, programs[0].module
    while not once():
        running = all(program.process.exitcode is None for program in programs)
        assert running, f"{module} ended before it was to be ended"
        assert time.monotonic() < deadline, f"{module} took longer than {TIMEOUT_S:g} s"
        time.sleep(0.01)

"""Measures functions in a process of their own, the time in a network, and memory. Linux only.

Each measurement has its own process, because memory that an earlier one left behind would hide what the
next one takes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import psutil

from pipelines.errors import RunError
from pipelines.running.workers import worker_pool

MIB = 2**20

Result = TypeVar("Result")


@dataclass(kw_only=True)
class Passes:
    """A network's forward passes during a measurement."""

    seconds: float = 0.0
    """Time in all of them."""
    rows: list[int] = field(default_factory=list)
    """Batch size of each."""


def in_new_process(function: Callable[..., Result], *arguments: Any, smaller: str) -> Result:
    """Call a function in a new process.

    Args:
        function: A function of a module.
        arguments: Its arguments.
        smaller: For the error message, what to reduce if memory does not suffice.

    Raises:
        RunError: If the process ends before the function.
    """
    with worker_pool(1, get_context("spawn")) as pool:
        try:
            return pool.submit(function, *arguments).result()
        except BrokenProcessPool as error:
            raise RunError(
                f"the process of {function.__name__}{arguments} was killed, most likely for want of memory;"
                f" take {smaller}"
            ) from error


@contextmanager
def watched(network: Any, device: str) -> Iterator[Passes]:
    """Time a network's forward passes."""
    passes, started = Passes(), 0.0

    def before(_: Any, inputs: tuple[Any, ...]) -> None:
        nonlocal started
        passes.rows.append(len(inputs[0]))
        _synchronize(device)
        started = time.perf_counter()

    def after(*_: Any) -> None:
        _synchronize(device)
        passes.seconds += time.perf_counter() - started

    hooks = [network.register_forward_pre_hook(before), network.register_forward_hook(after)]
    try:
        yield passes
    finally:
        for hook in hooks:
            hook.remove()


def free_bytes(device: str) -> int:
    """Memory that is still available."""
    return _cuda().mem_get_info(device)[0] if device.startswith("cuda") else psutil.virtual_memory().available


def reset_peak(device: str) -> int:
    """Start a new measurement of the peak; returns the memory in use."""
    if device.startswith("cuda"):
        _cuda().reset_peak_memory_stats(device)
        return _cuda().memory_allocated(device)
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # 5 resets VmHWM
    return peak_bytes(device)


def peak_bytes(device: str) -> int:
    """The most memory in use since `reset_peak`."""
    if device.startswith("cuda"):
        return _cuda().max_memory_allocated(device)
    lines = (
        Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    )  # psutil has no resettable peak
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith("VmHWM:")))


def used_bytes(device: str) -> int:
    """Memory in use now."""
    if device.startswith("cuda"):
        return _cuda().memory_allocated(device)
    return psutil.Process().memory_info().rss


def _synchronize(device: str) -> None:
    """Wait until a GPU has finished its work."""
    if device.startswith("cuda"):
        _cuda().synchronize(device)


def _cuda() -> Any:
    import torch

    return torch.cuda

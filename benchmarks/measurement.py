"""How a benchmark measures: in a process of its own, the time in a network, and memory.

Memory that one measurement left behind would hide what the next one takes. Linux only.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import Any, TypeVar

import psutil

from benchmarks import process_memory
from pipelines.errors import RunError

MIB = 2**20

Made = TypeVar("Made")


@dataclass(kw_only=True)
class Passes:
    """A network's forward passes during a measurement."""

    seconds: float = 0.0
    """In all of them."""
    rows: list[int] = field(default_factory=list)
    """Rows in the batch of each."""


def alone(function: Callable[..., Made], *arguments: Any, smaller: str) -> Made:
    """Call a function in a new process.

    Args:
        function: Of a module.
        arguments: Its own.
        smaller: What to take less of where memory does not do, for the error.

    Raises:
        RunError: If the process ends before the function.
    """
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as pool:
        try:
            return pool.submit(function, *arguments).result()
        except BrokenProcessPool as error:
            raise RunError(
                f"the process of {function.__name__}{arguments} was killed, most likely for want of memory;"
                f" take {smaller}"
            ) from error


@contextmanager
def watched(network: Any, device: str) -> Iterator[Passes]:
    """Time a network's passes."""
    passes, started = Passes(), 0.0

    def before(_: Any, inputs: tuple[Any, ...]) -> None:
        nonlocal started
        passes.rows.append(len(inputs[0]))
        wait(device)
        started = time.perf_counter()

    def after(*_: Any) -> None:
        wait(device)
        passes.seconds += time.perf_counter() - started

    hooks = [network.register_forward_pre_hook(before), network.register_forward_hook(after)]
    try:
        yield passes
    finally:
        for hook in hooks:
            hook.remove()


def free_bytes(device: str) -> int:
    """Memory that can still be taken."""
    if device.startswith("cuda"):
        return _cuda().mem_get_info(device)[0]
    return psutil.virtual_memory().available


def start(device: str) -> int:
    """Memory held now, from which the peak counts."""
    if device.startswith("cuda"):
        _cuda().reset_peak_memory_stats(device)
        return _cuda().memory_allocated(device)
    process_memory.forget_peak()
    return process_memory.peak_bytes()


def reached(device: str) -> int:
    """The most that was held since `start`."""
    if device.startswith("cuda"):
        return _cuda().max_memory_allocated(device)
    return process_memory.peak_bytes()


def held(device: str) -> int:
    """Memory held now."""
    if device.startswith("cuda"):
        return _cuda().memory_allocated(device)
    return psutil.Process().memory_info().rss


def wait(device: str) -> None:
    """Until a GPU has done what it was told."""
    if device.startswith("cuda"):
        _cuda().synchronize(device)


def _cuda() -> Any:
    import torch

    return torch.cuda

"""Pools of worker processes that leave none behind."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.context import BaseContext

from pipelines.running.stop_signal import WATCH_S


def worker_pool(workers: int, context: BaseContext | None = None) -> ProcessPoolExecutor:
    """A pool whose workers end when this process is killed; Python's own would wait for work for ever."""
    context = context or multiprocessing.get_context()
    # What a server forks is not this process' child.
    parent = None if context.get_start_method() == "forkserver" else os.getpid()
    return ProcessPoolExecutor(workers, context, initializer=_end_with, initargs=(parent,))


def _end_with(parent: int | None) -> None:
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int | None) -> None:
    # Of a forked worker `is_alive` stays true: its siblings hold the pipe by which it would be told.
    owner = multiprocessing.parent_process()
    while owner and owner.is_alive() and parent in (None, os.getppid()):
        time.sleep(WATCH_S)
    os._exit(1)

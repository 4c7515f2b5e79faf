"""Decode clips side by side, in threads.

Decoders leave Python's lock. Nothing else is done in these threads: torch would open a pool of its own in
each, and the pools would fight for the cores.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TypeVar

Given = TypeVar("Given")
Clip = TypeVar("Clip")
MOST = 8
"""Threads."""


def side_by_side(decode: Callable[[Given], Clip], given: Sequence[Given]) -> list[Clip]:
    """What `decode` makes of each, in order.

    Raises:
        Exception: The first that decoding raised.
    """
    return [*_threads().map(decode, given)] if len(given) > 1 else [decode(one) for one in given]


@lru_cache(maxsize=1)
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(min(MOST, os.cpu_count() or 1))

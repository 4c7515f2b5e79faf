"""Which part of a track a corruption touches: one piece of it, or places all over it.

For equal random draws, a larger share contains a smaller one.
"""

from __future__ import annotations

import numpy as np


def piece(length: int, share: float, least: int, rng: np.random.Generator) -> slice:
    """A random piece with a share of a track, of at least `least` samples or frames."""
    long = min(length, max(least, round(share * length)))
    start = round(rng.random() * (length - long))
    return slice(start, start + long)


def places(count: int, share: float, rng: np.random.Generator) -> np.ndarray:
    """A random share of `count` places, one at least: bool (count,)."""
    chosen = np.zeros(count, dtype=bool)
    chosen[rng.permutation(count)[: max(1, round(share * count))]] = True
    return chosen

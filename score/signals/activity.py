"""Signal of the video over time: does each place move when it did, and as much?"""

from __future__ import annotations

import numpy as np

from score.media.video import VideoTrack

LIVELY = 0.25
"""Places that move at least this share of what the liveliest one does are compared."""
MIN_FRAMES = 5
STILL = 1e-6
"""Mean square of what moves in the liveliest place of a source, below which nothing does."""


def activity(variant: VideoTrack, source: VideoTrack) -> float:
    """How well the place where it is worst moves when it did and as much, in [0, 1]; 1 if unchanged.

    With a and b what moves in variant and source, 2 Σ ab / (Σ a² + Σ b²) over time and over each
    neighbourhood of three by three cells that is lively in the source or the variant; the smallest of these.
    What moves is `VideoTrack.moving`. Held, repeated and frozen frames, a frozen block or mouth, smear,
    jitter and another pace all lower it; other colours do not. Formula ours. NaN if nothing moves in the
    source, or it has fewer than `MIN_FRAMES` frames.
    """
    length = min(len(variant), len(source)) - 1
    a, b = variant.moving[:length], source.moving[:length]
    if length + 1 < MIN_FRAMES or (b * b).mean(axis=0).max() < STILL:
        return float("nan")
    alike = _neighbourhoods(2 * (a * b).sum(axis=0))
    both = _neighbourhoods((a * a + b * b).sum(axis=0))
    lively = both >= LIVELY * both.max()
    return float((alike[lively] / np.maximum(both[lively], 1e-9)).min())


def _neighbourhoods(values: np.ndarray) -> np.ndarray:
    """Sums over each cell and those around it, (CELLS, CELLS)."""
    padded = np.pad(values, 1)
    height, width = values.shape
    return np.sum([padded[y : y + height, x : x + width] for y in range(3) for x in range(3)], axis=0)

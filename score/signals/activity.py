"""Signal of the video over time: does each place move when it did, and as much?"""

from __future__ import annotations

import numpy as np

from score.media.video import VideoTrack

LIVELY = 0.25
"""Places that move at least this share of what the liveliest one does are compared."""
STABILISER = 0.5
"""Share of what moves in the liveliest place that is added to what moves in each: without it, what a codec
leaves of a small motion would count as much as a large motion that is gone."""
MIN_FRAMES = 5
STILL = 1e-6
"""Mean square of what moves in the liveliest place of a source, below which nothing does."""


def activity(variant: VideoTrack, source: VideoTrack) -> float:
    """How well the place where it is worst moves when it did and as much, in [0, 1]; 1 if unchanged.

    With a and b what moves in variant and source, m = Σ (a² + b²) over time and over a neighbourhood of three
    by three cells, and M the largest m, 1 - (1 + s) Σ (a - b)² / (m + s M) with s = `STABILISER`: 0 if the
    liveliest place stands still. The smallest of the neighbourhoods that are lively in the source or the
    variant. What moves is `VideoTrack.moving`. Held, repeated and frozen frames, a frozen block or mouth,
    smear, jitter and another pace all lower it; other colours do not. Formula ours. NaN if nothing moves in
    the source, or it has fewer than `MIN_FRAMES` frames.
    """
    length = min(len(variant), len(source)) - 1
    a, b = variant.moving[:length], source.moving[:length]
    if length + 1 < MIN_FRAMES or (b * b).mean(axis=0).max() < STILL:
        return float("nan")
    differing = _neighbourhoods(((a - b) ** 2).sum(axis=0))
    moving = _neighbourhoods((a * a + b * b).sum(axis=0))
    most = moving.max()
    lively = moving >= LIVELY * most
    share = differing[lively] / (moving[lively] + STABILISER * most)
    return max(0.0, float(1 - (1 + STABILISER) * share.max()))  # rounding can go below


def _neighbourhoods(values: np.ndarray) -> np.ndarray:
    """Sums over each cell and those around it, (CELLS, CELLS)."""
    padded = np.pad(values, 1)
    height, width = values.shape
    return np.sum([padded[y : y + height, x : x + width] for y in range(3) for x in range(3)], axis=0)

"""Signals of the video over time: does each place move when it did, and as much? Does it last as long?"""

from __future__ import annotations

import numpy as np

from score.media.video import CELLS, VideoTrack, pooled

RESTING = 0.02
"""A change of brightness from frame to frame, in deviations of the clip's, that is no motion but noise."""
LIVELY = 0.25
"""Places that move at least this share of what the liveliest one does are compared."""
FORGIVEN_S = 0.04
"""A constant delay up to this is not seen."""
MIN_FRAMES = 5
STILL = 1e-6
"""Mean square of what moves in the liveliest place of a source, below which nothing does."""


def activity(variant: VideoTrack, source: VideoTrack) -> float:
    """How well the place where it is worst moves when it did and as much, in [0, 1]; 1 if unchanged.

    With a and b what moves in variant and source, 2 Σ ab / (Σ a² + Σ b²) over time and over each
    neighbourhood of three by three cells that is lively in the source or the variant; the smallest of these.
    What moves is the absolute change of a cell's brightness from frame to frame beyond `RESTING`, in
    deviations of the clip's brightness. Held, repeated and frozen frames, a frozen block or mouth, smear,
    jitter and another pace all lower it; other colours do not. Formula ours. NaN if nothing moves in the
    source, or it has fewer than `MIN_FRAMES` frames.
    """
    length = min(len(variant), len(source)) - 1
    a, b = _moving(variant)[:length], _moving(source)[:length]
    if length + 1 < MIN_FRAMES or (b * b).mean(axis=0).max() < STILL:
        return float("nan")
    lags = range(-round(FORGIVEN_S * source.fps), round(FORGIVEN_S * source.fps) + 1)
    return max(_least_alike(*_shifted(a, b, lag)) for lag in lags)


def length(variant: VideoTrack, source: VideoTrack) -> float:
    """Minus the difference of the durations in s, in (-inf, 0]; 0 if unchanged."""
    return -abs(len(variant) / variant.fps - len(source) / source.fps)


def _moving(video: VideoTrack) -> np.ndarray:
    """What moves in each cell from each frame to the next, (F - 1, CELLS, CELLS)."""
    return np.maximum(np.abs(np.diff(pooled(video.normalised, CELLS), axis=0)) - RESTING, 0.0)


def _shifted(a: np.ndarray, b: np.ndarray, lag: int) -> tuple[np.ndarray, np.ndarray]:
    """Two curves of one length, the first of them earlier by `lag` steps, where they overlap."""
    if lag < 0:
        return a[:lag], b[-lag:]
    return a[lag:], b[: len(b) - lag]


def _least_alike(a: np.ndarray, b: np.ndarray) -> float:
    alike = _neighbourhoods(2 * (a * b).sum(axis=0))
    both = _neighbourhoods((a * a + b * b).sum(axis=0))
    lively = both >= LIVELY * both.max()
    return float((alike[lively] / np.maximum(both[lively], 1e-9)).min())


def _neighbourhoods(values: np.ndarray) -> np.ndarray:
    """Sums over each cell and those around it, (CELLS, CELLS)."""
    padded = np.pad(values, 1)
    height, width = values.shape
    return np.sum([padded[y : y + height, x : x + width] for y in range(3) for x in range(3)], axis=0)

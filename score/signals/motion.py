"""Video: does each place of the picture move as it did, above all the mouth, which moves most?"""

from __future__ import annotations

import numpy as np

from score.media.clip import Clip

MIN_FRAMES = 5
STILL = 1e-6
"""Variance over time of a cell's brightness, in [0, 1]; below this nothing moves."""


def measure(variant: Clip, source: Clip) -> float:
    """Correlation over time of each cell's brightness with the source's, in [-1, 1]; 1 is kept.

    The mean over the cells, each weighed by how much it varies in the source. NaN where the
    source stands still or has fewer than `MIN_FRAMES` frames.
    """
    assert variant.picture is not None
    assert source.picture is not None
    length = min(len(variant.picture), len(source.picture))
    a, b = (clip.picture.trajectories[:length] for clip in (variant, source) if clip.picture)
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    varies = (b * b).mean(axis=0)
    if length < MIN_FRAMES or varies.max() < STILL:
        return float("nan")
    spread = np.sqrt((a * a).mean(axis=0) * varies)
    correlations = (a * b).mean(axis=0) / np.maximum(spread, STILL)
    return float((correlations * varies).sum() / varies.sum())

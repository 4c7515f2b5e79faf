"""Audio: does the pitch rise and fall as the source's does?"""

from __future__ import annotations

import numpy as np

from score.media.clip import Clip
from score.similarity import concordance

MIN_VOICED = 6
"""Frames of 16 ms with a pitch that the source must have."""
FARTHEST = 2.0
"""Standard deviations of the source's contour that a frame is off by at most: trackers miss by octaves."""


def measure(variant: Clip, source: Clip) -> float:
    """Concordance of the pitch contours in octaves, times the share of voiced frames kept, in [-1, 1].

    The contours are laid over each other by the median of their distance, and a frame that is farther
    off than `FARTHEST` counts as that far. A voice that is higher by a constant factor scores 1, a
    monotone about 0. NaN where the source has
    fewer than `MIN_VOICED` voiced frames; 0 where the variant has lost them.
    """
    assert variant.sound is not None
    assert source.sound is not None
    length = min(len(variant.sound.pitch), len(source.sound.pitch))
    a, b = variant.sound.pitch[:length], source.sound.pitch[:length]
    voiced = np.isfinite(b)
    both = voiced & np.isfinite(a)
    if voiced.sum() < MIN_VOICED:
        return float("nan")
    if both.sum() < MIN_VOICED:
        return 0.0
    return concordance(_near(a[both], b[both]), b[both]) * float(both.sum() / voiced.sum())


def _near(contour: np.ndarray, source: np.ndarray) -> np.ndarray:
    """A contour laid over its source's, (n,), with its outliers brought near."""
    off = contour - source
    farthest = FARTHEST * source.std()
    return source + np.clip(off - np.median(off), -farthest, farthest)

"""Video: does the picture change from frame to frame as much as the source's?"""

from __future__ import annotations

import numpy as np

from score.media.clip import Clip
from score.media.video import Picture, pooled
from score.similarity import smoothed

STILL = 0.005
"""Change, in spreads of the brightness, that is too little to be seen."""
CELLS = 32
"""Cells a side that the brightness is taken over."""
SMOOTHED = 5
"""Frames that the change is averaged over."""


def measure(variant: Clip, source: Clip) -> float:
    """The smaller over the larger of the pictures' restlessness, mean over the frames, in [0, 1]; 1 is kept.

    Restlessness is the mean second difference in time of the brightness of small cells, in spreads
    of the clip's brightness, smoothed over `SMOOTHED` frames. Flicker, noise and shuffled frames raise
    it; smearing and freezing lower it. Frame by frame, because another clip is as restless on the
    whole. Cells, because an encoder takes the finest grain away. NaN for fewer than three frames.
    """
    assert variant.picture is not None
    assert source.picture is not None
    length = min(len(variant.picture), len(source.picture))
    if length < 3:
        return float("nan")
    ratio = _restlessness(variant.picture)[: length - 2] / _restlessness(source.picture)[: length - 2]
    return float(np.minimum(ratio, 1 / ratio).mean())


def _restlessness(picture: Picture) -> np.ndarray:
    """Of each frame that has neighbours, (F - 2,)."""
    cells = pooled(picture.normalised, CELLS)
    changes = np.abs(np.diff(cells, n=2, axis=0)).mean(axis=(1, 2))
    return smoothed(changes, SMOOTHED) + STILL

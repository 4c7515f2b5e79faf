"""Video: does the picture change from frame to frame as much as the source's?"""

from __future__ import annotations

import numpy as np

from score.clip import Clip
from score.picture import Picture, pooled

STILL = 0.005
"""Change, in spreads of the brightness, that is too little to be seen."""
CELLS = 32
"""Cells a side that the brightness is taken over."""


def measure(variant: Clip, source: Clip) -> float:
    """The smaller over the larger of the two pictures' restlessness, in [0, 1]; 1 is kept.

    Restlessness is the mean second difference in time of the brightness of small cells, in spreads
    of the clip's brightness. Flicker, noise and shuffled frames raise it; smearing and freezing
    lower it. Cells, because an encoder takes the finest grain away.
    NaN for fewer than three frames.
    """
    assert variant.picture is not None
    assert source.picture is not None
    if min(len(variant.picture), len(source.picture)) < 3:
        return float("nan")
    ratio = _restlessness(variant.picture) / _restlessness(source.picture)
    return min(ratio, 1 / ratio)


def _restlessness(picture: Picture) -> float:
    cells = pooled(picture.normalised, CELLS)
    return float(np.abs(np.diff(cells, n=2, axis=0)).mean()) + STILL

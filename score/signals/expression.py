"""Video, by a classifier of expressions: does the face show the same, moment by moment?"""

from __future__ import annotations

import numpy as np

from score.media.clip import Clip
from score.similarity import agreement


def measure(variant: Clip, source: Clip) -> float:
    """Mean agreement of the frames' class probabilities with the source's, in [0, 1]; 1 is kept.

    A frame whose face the variant has lost agrees by 0. NaN where the source has no face.
    """
    a, b = variant.seen("expression"), source.seen("expression")
    length = min(len(a), len(b))
    a, b = a[:length], b[:length]
    there = np.isfinite(b).all(axis=1)
    if not there.any():
        return float("nan")
    return float(np.nan_to_num(agreement(a[there], b[there])).mean())

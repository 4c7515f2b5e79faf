"""Audio, by a classifier of emotions: is it said in the same mood?"""

from __future__ import annotations

from score.media.clip import Clip
from score.similarity import agreement


def measure(variant: Clip, source: Clip) -> float:
    """Agreement of the class probabilities with the source's, in [0, 1]; 1 is kept.

    NaN where the source is silent, 0 where the variant alone is.
    """
    a, b = variant.heard("emotion"), source.heard("emotion")
    if b is None:
        return float("nan")
    return 0.0 if a is None else float(agreement(a, b))

"""Audio, by a model that rates speech: does it sound as good as the source's?"""

from __future__ import annotations

from score.media.clip import Clip


def measure(variant: Clip, source: Clip) -> float:
    """Rating less the source's, on a scale from 1 to 5, in [-4, 0]; 0 is as good or better.

    NaN where the source is silent.
    """
    assert source.sound is not None
    if source.sound.silent:
        return float("nan")
    return float(min(variant.heard("quality") - source.heard("quality"), 0.0))

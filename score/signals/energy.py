"""Audio: does the loudness rise and fall as the source's does?"""

from __future__ import annotations

from score.media.clip import Clip
from score.similarity import concordance


def measure(variant: Clip, source: Clip) -> float:
    """Concordance of the loudness contours in dB, in [-1, 1]; 1 is kept, a constant gain does not count.

    NaN where the source is silent.
    """
    assert variant.sound is not None
    assert source.sound is not None
    if source.sound.silent:
        return float("nan")
    length = min(len(variant.sound.energy), len(source.sound.energy))
    return concordance(variant.sound.energy[:length], source.sound.energy[:length])

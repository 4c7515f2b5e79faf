"""Audio: are the same sounds said at the same time, whoever says them?"""

from __future__ import annotations

import numpy as np

from score.media.clip import Clip
from score.similarity import pearson


def measure(variant: Clip, source: Clip) -> float:
    """Correlation of the mel spectra in dB, each band's mean over time removed, in [-1, 1]; 1 is kept.

    What a voice or a microphone adds to every frame does not count. NaN where the source is silent.
    """
    assert variant.sound is not None
    assert source.sound is not None
    if source.sound.silent:
        return float("nan")
    length = min(len(variant.sound.bands), len(source.sound.bands))
    return pearson(*(_changes(sound.bands[:length]) for sound in (variant.sound, source.sound)))


def _changes(bands: np.ndarray) -> np.ndarray:
    return bands - bands.mean(axis=0)

"""Audio: is the sound as clear as the source's, neither noisy, nor overdriven, nor muffled?"""

from __future__ import annotations

import numpy as np

from score.media.audio import Sound
from score.media.clip import Clip

NEAR_PEAK = 0.97
"""Of the loudest sample; where a sound was cut off, many samples are above this."""
FEW = 1e-3
"""Share of samples near the peak that says nothing: speech that is whole has about 1e-4."""
QUIET, LOUD = 0.1, 0.95
"""Quantiles over time between which a band rises and falls."""


def measure(variant: Clip, source: Clip) -> float:
    """The worse of two losses beside the source, in dB, in (-inf, 0]; 0 is kept.

    *Flat peaks*: by how much more of the samples lie near the loudest one, as in sound that was cut
    off. *Depth*: by how much less each mel band rises and falls, in the mean over the bands, where
    one that does more makes up for no other. Noise fills what is between the sounds, a missing band
    does nothing at all. A gain, a moved pitch or another timbre touch neither by much. NaN where
    the source is silent.

    References:
        Depth is akin to Steeneken and Houtgast 1980, "A physical method for measuring speech-transmission
        quality", who ask for it by modulation frequency; both formulas are ours.
    """
    assert variant.sound is not None
    assert source.sound is not None
    if source.sound.silent:
        return float("nan")
    peaks = 10 * np.log10((_near_peak(source.sound) + FEW) / (_near_peak(variant.sound) + FEW))
    depth = np.minimum(_depth(variant.sound) - _depth(source.sound), 0.0).mean()
    return float(min(peaks, depth, 0.0))


def _near_peak(sound: Sound) -> float:
    """Share of the samples near the loudest; 0 in silence."""
    amplitude = np.abs(sound.samples)
    return 0.0 if sound.silent else float((amplitude > NEAR_PEAK * amplitude.max()).mean())


def _depth(sound: Sound) -> np.ndarray:
    """How far each band rises and falls, in dB, (BANDS,)."""
    quiet, loud = np.quantile(sound.bands, (QUIET, LOUD), axis=0)
    return loud - quiet

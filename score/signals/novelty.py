"""How much did change: a copy is faithful and teaches nothing. No part of a quality."""

from __future__ import annotations

import numpy as np

from score.media.clip import Clip


def measure_video(variant: Clip, source: Clip) -> float:
    """Mean absolute difference of the colours, in [0, 1]; 0 is a copy."""
    assert variant.picture is not None
    assert source.picture is not None
    length = min(len(variant.picture), len(source.picture))
    a, b = (clip.picture.frames[:length].astype(np.int16) for clip in (variant, source) if clip.picture)
    return float(np.abs(a - b).mean() / 255)


def measure_audio(variant: Clip, source: Clip) -> float:
    """Root mean square difference of the voices' mean spectra, in dB; 0 is the same voice.

    NaN where either is silent.
    """
    assert variant.sound is not None
    assert source.sound is not None
    if variant.sound.silent or source.sound.silent:
        return float("nan")
    return float(np.sqrt(((variant.sound.spectrum - source.sound.spectrum) ** 2).mean()))

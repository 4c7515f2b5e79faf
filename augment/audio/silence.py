"""Trims recordings to speech: removes silence before, after and between the words."""

from __future__ import annotations

import numpy as np

SAMPLING_RATE = 16_000
_HOP = 160  # samples of a frame, 10 ms
_MARGIN = 10  # frames kept around speech, for soft beginnings and ends of words
_QUIET_DB = 40.0  # below the loud parts: anything softer is silence
_OVER_FLOOR_DB = 6.0  # above the noise floor: anything softer is noise, unless
_SURE_DB = 20.0  # it is less than this below the loud parts


def trimmed(samples: np.ndarray) -> np.ndarray:
    """Trim a recording to speech, by level only.

    Frames of 10 ms are speech if they are above 40 dB below the loud frames (95 % quantile), and in noisy
    recordings above 6 dB over the softest frames (5 % quantile), but always if above 20 dB below the loud
    ones. Everything further than 0.1 s from speech is removed, so that long pauses become 0.2 s.

    Args:
        samples: float32 mono at 16 kHz, (samples,).

    Returns:
        float32, (samples,) or shorter; the input itself if it is silent or not finite. Music and noise as
        loud as speech stay.
    """
    if not samples.any() or not np.isfinite(samples).all():
        return samples
    padded = np.pad(samples.astype(np.float64), (0, -len(samples) % _HOP))
    levels = 10 * np.log10(np.square(padded).reshape(-1, _HOP).mean(1) + 1e-12)  # dB, (frames,)
    soft, loud = np.quantile(levels, [0.05, 0.95])
    threshold = max(loud - _QUIET_DB, min(soft + _OVER_FLOOR_DB, loud - _SURE_DB))
    near = np.convolve(levels > threshold, np.ones(2 * _MARGIN + 1))[_MARGIN : _MARGIN + len(levels)] > 0
    return samples[np.repeat(near, _HOP)[: len(samples)]]

"""The speech in a recording: what is left when silence before, after and between the words is taken away."""

from __future__ import annotations

import numpy as np

SAMPLING_RATE = 16_000
_HOP = 160
"""Samples of a stretch whose level is taken, 10 ms."""
_MARGIN = 10
"""Stretches that are kept around speech, 0.1 s, for soft beginnings and ends of words."""
_QUIET_DB = 40.0
"""Below the loud parts nothing is speech any more."""
_OVER_FLOOR_DB = 6.0
"""Above a recording's noise nothing is noise any more; up to `_SURE_DB` below the loud parts."""
_SURE_DB = 20.0


def trimmed(samples: np.ndarray) -> np.ndarray:
    """A recording's speech, by its level alone.

    Speech is what is louder than 40 dB below the loud parts (the 95 % quantile of 10 ms), in a noisy
    recording louder than 6 dB above the softest parts (5 % quantile), but never softer than what is
    20 dB below the loud ones. What is further than 0.1 s from speech goes; a pause becomes 0.2 s.

    Args:
        samples: float32 mono at 16 kHz, (samples,).

    Returns:
        Like it, as long or shorter; all of it where it is silent or not finite. Music and noise as loud as
        speech stay.
    """
    if not samples.any() or not np.isfinite(samples).all():
        return samples
    levels = _levels(samples)
    soft, loud = np.quantile(levels, [0.05, 0.95])
    threshold = max(loud - _QUIET_DB, min(soft + _OVER_FLOOR_DB, loud - _SURE_DB))
    near = np.convolve(levels > threshold, np.ones(2 * _MARGIN + 1))[_MARGIN : _MARGIN + len(levels)] > 0
    return samples[np.repeat(near, _HOP)[: len(samples)]]


def _levels(samples: np.ndarray) -> np.ndarray:
    """Level of each 10 ms in dB of full scale, (-(-samples // 160),)."""
    padded = np.pad(samples.astype(np.float64), (0, -len(samples) % _HOP))
    return 10 * np.log10(np.square(padded).reshape(-1, _HOP).mean(1) + 1e-12)

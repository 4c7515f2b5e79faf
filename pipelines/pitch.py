"""The pitch contour of speech, by the autocorrelation of short windows.

Stages need one contour: a converter steers by it, a scorer compares it, a puppet's base model is
taught to hear it.
"""

from __future__ import annotations

import numpy as np

PITCH_HZ = (60.0, 500.0)
WINDOW_S = 0.04
_VOICED = 0.5  # a window whose autocorrelation peaks below this has no pitch
_OCTAVE_COST = 0.02  # an octave up is preferred unless its peak is lower by more than this
_QUIET_DB = 30.0  # what is further below the loudest window has no pitch
_OUTLIER_OCTAVES = 0.8  # a pitch further from the clip's median is taken for an error
_SILENT = 1e-4  # amplitude below which a clip is silent


def contour(samples: np.ndarray, sampling_rate: int, hop_s: float = 0.01) -> np.ndarray:
    """log2 of the pitch in Hz, at the times 0, `hop_s`, 2 `hop_s`, …

    Args:
        samples: Mono sound in [-1, 1], shape (samples,).
        sampling_rate: In Hz, at least 16000; below, a lag is too coarse for high voices.
        hop_s: Seconds from one value to the next.

    Returns:
        float64, shape (max(1, samples // hop),); NaN where the sound has no pitch.

    References:
        Boersma 1993, "Accurate short-term analysis of the fundamental frequency and the
        harmonics-to-noise ratio of a sampled sound", without the search for a path.
    """
    hop, window = sampling_rate * hop_s, round(sampling_rate * WINDOW_S)
    frames = _windows(samples, hop, window)
    level = np.sqrt((frames**2).mean(axis=1))
    taper = np.hanning(window)
    correlation = _autocorrelation((frames - frames.mean(axis=1, keepdims=True)) * taper)
    correlation /= _autocorrelation(taper[None])
    shortest, longest = (round(sampling_rate / hertz) for hertz in reversed(PITCH_HZ))
    cost = _OCTAVE_COST * np.log2(np.arange(shortest, longest) / shortest)
    best = (correlation[:, shortest:longest] - cost).argmax(axis=1) + shortest
    lag, peak = _refined(correlation, best)
    voiced = (peak > _VOICED) & (level > max(level.max() * 10 ** (-_QUIET_DB / 20), _SILENT))
    pitch = np.where(voiced, np.log2(sampling_rate / lag), np.nan)
    if not voiced.any():
        return pitch
    return np.where(np.abs(pitch - np.nanmedian(pitch)) < _OUTLIER_OCTAVES, pitch, np.nan)


def _windows(samples: np.ndarray, hop: float, window: int) -> np.ndarray:
    """Pieces centred at 0, hop, 2 hop, …, silence beyond the ends, (frames, window)."""
    starts = np.round(np.arange(max(1, int(len(samples) / hop))) * hop).astype(int)
    padded = np.pad(samples.astype(np.float64), (window // 2, window))
    return padded[starts[:, None] + np.arange(window)]


def _autocorrelation(frames: np.ndarray) -> np.ndarray:
    """Autocorrelation over that at lag 0, for lags up to half a window, (frames, lags)."""
    window = frames.shape[1]
    power = np.abs(np.fft.rfft(frames, 2 * window)) ** 2
    correlation = np.fft.irfft(power)[:, : window // 2]
    return correlation / np.maximum(correlation[:, :1], 1e-12)


def _refined(correlation: np.ndarray, best: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The lag of each peak by the parabola through three points, and its height."""
    rows = np.arange(len(best))
    before, at, after = (
        correlation[rows, np.minimum(best + step, correlation.shape[1] - 1)] for step in (-1, 0, 1)
    )
    curvature = before - 2 * at + after
    offset = np.where(curvature < -1e-9, 0.5 * (before - after) / np.minimum(curvature, -1e-9), 0.0)
    return best + np.clip(offset, -0.5, 0.5), at

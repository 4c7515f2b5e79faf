"""Harmless changes of a voice, as a good variant may have them, made without a model.

A voice converter changes pitch, formants, timbre and level, and keeps the words and the way they are
said. Audio changed in this way makes the calibration's good pairs (`score.measurement`): audio that is
only encoded again would be a copy, compared with which everything is bad.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pipelines import pitch

OCTAVES = 0.6
"""Largest shift of the pitch, up or down: about from a man's voice to a woman's."""
FORMANTS = 0.08
"""Largest change of scale of the spectral envelope, as a share."""
TIMBRE_DB, TIMBRE_KNOTS = 4.0, 6
"""Standard deviation of the filter's gain, and the number of points from 0 to 8 kHz where it is drawn."""
GAIN_DB = 6.0
"""Largest reduction of the level."""
NOISE_DB = 40.0
"""Signal-to-noise ratio of the added noise."""
WINDOW, HOP = 512, 128
"""Samples of a window of the spectrum, and from one window to the next."""
QUEFRENCIES = 30
"""Cepstral coefficients of the envelope: 1.9 ms, shorter than any voice's period."""


def another_voice(samples: np.ndarray, seed: int) -> np.ndarray:
    """The same words, said in the same way, with another pitch, other formants, timbre and level.

    Args:
        samples: float32 mono (samples,) in [-1, 1] at 16 kHz.
        seed: Seed of the amounts.

    Returns:
        float32 (samples,) in [-1, 1].

    References:
        Choi et al. 2021, "Neural analysis and synthesis", arXiv:2110.14513, section 3.1: pitch,
        formants and timbre are perturbed so that only the words remain; the ranges are ours and
        narrower, and the intonation is kept.
    """
    rng = np.random.default_rng(seed)
    made = with_pitch(samples, lambda octaves: octaves + rng.uniform(-OCTAVES, OCTAVES))
    made = _with_envelope(made, 1 + rng.uniform(-FORMANTS, FORMANTS), rng.normal(0, TIMBRE_DB, TIMBRE_KNOTS))
    level = float(np.sqrt((made * made).mean()))
    made = made + rng.normal(0, 1, len(made)) * level / 10 ** (NOISE_DB / 20)
    # The filter may have raised the peak; only a lower level is harmless where that clips.
    peak = float(np.abs(samples).max(initial=0.0)) / max(float(np.abs(made).max(initial=0.0)), 1e-9)
    gain = min(1.0, peak) * 10 ** (-rng.uniform(0, GAIN_DB) / 20)
    return (gain * made).astype(np.float32)


def with_pitch(samples: np.ndarray, change: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Audio with another pitch in voiced frames, by moving its periods closer together or farther apart.

    Args:
        samples: float32 mono (samples,) at 16 kHz.
        change: From log2 of the pitch in Hz, a value every 16 ms, to its replacement.

    Returns:
        (samples,), clipped to [-1, 1]; the input itself if it has no pitch.

    References:
        Moulines and Charpentier 1990, "Pitch-synchronous waveform processing techniques"; differs in
        that marks follow the tracked period and are not moved to the closures of the glottis.
    """
    hertz = pitch.track(samples)
    known = np.flatnonzero(np.isfinite(hertz))
    if len(known) == 0:
        return samples
    frames, time = np.arange(len(hertz)), np.arange(len(samples)) / pitch.HOP
    octaves = np.interp(frames, known, np.log2(hertz[known]))
    before, after = (np.interp(time, frames, contour) for contour in (octaves, change(octaves)))
    old, new = (np.flatnonzero(np.diff(np.cumsum(2**at) // pitch.SAMPLING_RATE)) for at in (before, after))
    if len(old) == 0:
        return samples
    pad = round(pitch.SAMPLING_RATE / pitch.RANGE_HZ[0]) + 1
    padded = np.pad(samples, pad)
    total, cover = np.zeros(len(padded)), np.zeros(len(padded))
    for to, at in zip(new, old[np.minimum(np.searchsorted(old, new), len(old) - 1)], strict=True):
        period = round(pitch.SAMPLING_RATE / 2 ** before[at])
        window = np.hanning(2 * period + 1)
        source, target = (slice(pad + mark - period, pad + mark + period + 1) for mark in (at, to))
        total[target] += window * padded[source]
        cover[target] += window
    made = (total / np.maximum(cover, 0.1))[pad:-pad]
    voiced = np.interp(time, frames, np.isfinite(hertz).astype(float))
    return clipped(voiced * made + (1 - voiced) * samples)


def _with_envelope(samples: np.ndarray, scale: float, gains_db: np.ndarray) -> np.ndarray:
    """Audio with its spectral envelope stretched by `scale`, filtered by gains at even distances."""
    import torch

    bins = np.arange(WINDOW // 2 + 1)
    window = torch.hann_window(WINDOW)
    padded = np.pad(samples, (0, max(0, WINDOW - len(samples))))
    signal = torch.from_numpy(padded)
    spectrum = torch.stft(signal, WINDOW, HOP, window=window, return_complex=True)  # (bins, T)
    nepers = np.log(np.maximum(spectrum.abs().numpy(), 1e-5))
    cepstrum = np.fft.irfft(nepers, axis=0)
    cepstrum[QUEFRENCIES : WINDOW - QUEFRENCIES + 1] = 0
    envelope = np.fft.rfft(cepstrum, axis=0).real
    at = np.minimum(bins / scale, bins[-1])
    below = np.minimum(at.astype(int), len(bins) - 2)
    share = (at - below)[:, None]
    stretched = (1 - share) * envelope[below] + share * envelope[below + 1]
    timbre = np.interp(bins, np.linspace(0, bins[-1], len(gains_db)), gains_db) * np.log(10) / 20
    gain = np.exp(stretched - envelope + timbre[:, None]).astype(np.float32)
    made = torch.istft(spectrum * torch.from_numpy(gain), WINDOW, HOP, window=window, length=len(padded))
    return made.numpy()[: len(samples)]


def clipped(samples: np.ndarray) -> np.ndarray:
    """Samples clipped to [-1, 1], as float32."""
    return np.clip(samples, -1, 1).astype(np.float32)

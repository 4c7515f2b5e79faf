"""Mel spectrograms at 16 kHz, and their inversion to a waveform.

The spectrogram is the one that `SpeechT5HifiGan` was trained on (80 bands from 80 to 7600 Hz, a
window of 64 ms every 16 ms, base-10 logarithm), so that this vocoder can replace `griffin_lim`, which
needs no weights.
"""

from __future__ import annotations

from functools import lru_cache

import torch

SAMPLING_RATE = 16_000
HOP = 256  # samples from one frame to the next: 16 ms
WINDOW = 1024
BANDS = 80
_RANGE_HZ = (80.0, 7600.0)
FLOOR = 1e-5  # least mel magnitude, about the quantisation noise of 16 bits


def frame_count(samples: int) -> int:
    """Number of frames of a waveform; frame i is centred at sample i * HOP."""
    return samples // HOP + 1


def stft(samples: torch.Tensor) -> torch.Tensor:
    """Complex spectrum (..., 513, frames) of waveforms (..., samples) with at least one sample."""
    window = torch.hann_window(WINDOW, device=samples.device)
    return torch.stft(samples, WINDOW, HOP, window=window, pad_mode="constant", return_complex=True)


def log_mel(samples: torch.Tensor) -> torch.Tensor:
    """Base-10 log mel magnitudes.

    Args:
        samples: float32 waveforms in [-1, 1] at 16 kHz, shape (..., samples).

    Returns:
        float32 (..., frames, 80) with `frame_count(samples)` frames, at least log10(FLOOR).
    """
    magnitude = stft(samples).abs().transpose(-1, -2)  # (..., frames, 513)
    return (magnitude @ filters().to(samples.device)).clamp(min=FLOOR).log10()


@lru_cache(maxsize=1)
def filters() -> torch.Tensor:
    """Triangular mel filters on Slaney's scale, of equal area, (513, 80)."""
    from transformers.audio_utils import mel_filter_bank

    bank = mel_filter_bank(
        num_frequency_bins=WINDOW // 2 + 1,
        num_mel_filters=BANDS,
        min_frequency=_RANGE_HZ[0],
        max_frequency=_RANGE_HZ[1],
        sampling_rate=SAMPLING_RATE,
        norm="slaney",
        mel_scale="slaney",
    )
    return torch.from_numpy(bank).float()


def griffin_lim(
    mel: torch.Tensor, excitation: torch.Tensor, *, iterations: int = 8, momentum: float = 0.9
) -> torch.Tensor:
    """A waveform of a mel spectrogram, without a trained vocoder.

    Our variant: magnitudes and phases both start from an excitation, a pulse train with the wanted pitch.
    Its fine structure supplies what a mel spectrogram does not resolve (the harmonics above 1 kHz), and
    its phases are nearly right, so that a few iterations are enough.

    Args:
        mel: From `log_mel`, (frames, 80).
        excitation: Waveform with a flat spectrum and the wanted pitch, (samples,), with as many
            frames as `mel`.
        iterations: Number of phase updates.
        momentum: Of the phase updates, in [0, 1).

    Returns:
        float32 (samples,), as long as the excitation.

    References:
        Griffin and Lim 1984; momentum by Perraudin, Balazs and Søndergaard 2013. Magnitudes by the
        multiplicative update for least squares of Lee and Seung 2001.
    """
    start = stft(excitation)
    magnitude = _magnitudes(10**mel, start.abs().T).T
    phase = start / start.abs().clamp(min=1e-9)
    previous = torch.zeros_like(phase)
    for _ in range(iterations):
        rebuilt = stft(_waveform(magnitude * phase, len(excitation)))
        stepped = rebuilt - previous * (momentum / (1 + momentum))
        phase, previous = stepped / stepped.abs().clamp(min=1e-9), rebuilt
    return _waveform(magnitude * phase, len(excitation))


def _waveform(spectrum: torch.Tensor, samples: int) -> torch.Tensor:
    window = torch.hann_window(WINDOW, device=spectrum.device)
    return torch.istft(spectrum, WINDOW, HOP, window=window, length=samples)


def _magnitudes(mel: torch.Tensor, start: torch.Tensor, updates: int = 8) -> torch.Tensor:
    """Spectra (frames, 513) with given mel magnitudes (frames, 80), similar in shape to `start`."""
    bank = filters().to(mel.device)
    weight = bank.sum(1).clamp(min=1e-6)
    inside = bank.sum(1) > 0
    magnitude = start.clamp(min=1e-6) * inside
    for update in range(updates):
        ratio = mel / (magnitude @ bank).clamp(min=1e-8)
        # The first steps are larger, as the excitation's level is arbitrary.
        magnitude = magnitude * ((ratio.clamp(max=1e6) @ bank.T) / weight) ** (1.0 if update < 4 else 0.7)
    return magnitude

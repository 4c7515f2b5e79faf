"""Classic audio variants, the baseline for voice conversion.

The pitch is shifted, and a phase vocoder's smear, reverberation and noise are added. The words, their timing
and the loudness stay.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import torch

from augment import waveform
from augment.classic.settings import CLEAN_DB, ClassicSettings
from pipelines import media

SAMPLING_RATE = 16_000
_WINDOW, _HOP = 512, 128
_EVEN_S = 0.8  # reverberation time at which the echoes have as much energy as the direct sound


def make_variant(
    settings: ClassicSettings, row: dict[str, Any], seed: int, strength: float = 1.0
) -> tuple[bytes, dict[str, Any]]:
    """Make an audio variant.

    Args:
        settings: The ranges that the changes are drawn from.
        row: A row with the clip's bytes in `audio`.
        seed: Draws the changes.
        strength: Factor on the ranges, in (0, 1].

    Returns:
        A FLAC file as long and as loud as the source, and how it was made.

    Raises:
        MediaError: If the clip cannot be read.
        ValueError: If it is silent.
    """
    samples = media.read_audio(row["audio"]["bytes"])
    # The seed alone draws the changes to the video.
    changes = draw_changes(settings, np.random.default_rng([seed, 1]), strength)
    return media.encode_audio(changed(samples, **changes), SAMPLING_RATE), {"method": "classic", **changes}


def draw_changes(settings: ClassicSettings, rng: np.random.Generator, strength: float) -> dict[str, Any]:
    """Draw the arguments of `changed`."""
    ranges = settings.weaker(strength).sound
    return {
        "semitones": round(float(rng.uniform(-1, 1) * ranges.semitones), 4),
        "stretch": round(float(1 + rng.uniform(-1, 1) * ranges.stretch), 4),
        "room_s": round(float(rng.uniform(0, ranges.room_s)), 4),
        "snr_db": round(float(rng.uniform(ranges.snr_db, CLEAN_DB)), 4),
        "noise_seed": int(rng.integers(2**31)),
    }


def changed(
    samples: np.ndarray, *, semitones: float, stretch: float, room_s: float, snr_db: float, noise_seed: int
) -> np.ndarray:
    """Shift a waveform's pitch, stretch it and back, and add reverberation and noise.

    Args:
        samples: float32 mono at 16 kHz, (samples,), not silent.
        semitones: Shift of pitch and formants; 0 changes nothing.
        stretch: Factor on the speed, undone by its inverse, so that only the phase vocoder's smear stays.
            1 changes nothing.
        room_s: Seconds in which the echoes decay by 60 dB; 0 adds none.
        snr_db: Ratio of the signal to white noise; from `CLEAN_DB` on there is none.
        noise_seed: Draws reverberation and noise.

    Returns:
        float32 (samples,) in [-1, 1], as long and as loud as the input; softer where it would clip.

    Raises:
        ValueError: If the input is silent, empty or not finite.
    """
    from torchaudio.functional import add_noise

    level = waveform.level("audio", samples)
    length, made = len(samples), torch.from_numpy(samples)
    generator = torch.Generator().manual_seed(noise_seed)
    if semitones:
        made = shifted(made, semitones)
    if stretch != 1:
        made = waveform.fitted(_stretched(_stretched(made, stretch), 1 / stretch), length)
    if room_s:
        made = _in_room(made, room_s, generator)
    if snr_db < CLEAN_DB:
        made = add_noise(made, torch.randn(len(made), generator=generator), torch.tensor(snr_db))
    return waveform.matched(made, SAMPLING_RATE, level=level, sampling_rate=SAMPLING_RATE, length=length)


def shifted(samples: torch.Tensor, semitones: float) -> torch.Tensor:
    """Shift pitch and formants of a waveform (samples,) and keep its length: stretch it, then resample."""
    from torchaudio.functional import resample

    # The resampler's filters are as long as the terms of the ratio.
    ratio = Fraction(2 ** (semitones / 12)).limit_denominator(64)
    longer = _stretched(samples, float(1 / ratio))
    return waveform.fitted(resample(longer, ratio.numerator, ratio.denominator), len(samples))


def _stretched(samples: torch.Tensor, rate: float) -> torch.Tensor:
    """The waveform `rate` times as fast at the same pitch, (round(samples / rate),)."""
    from torchaudio.functional import phase_vocoder

    window = torch.hann_window(_WINDOW)
    spectrum = torch.stft(
        samples, _WINDOW, _HOP, window=window, return_complex=True, pad_mode="constant", center=True
    )
    advance = torch.linspace(0, math.pi * _HOP, spectrum.shape[-2])[:, None]
    length = max(1, round(len(samples) / rate))
    return torch.istft(phase_vocoder(spectrum, rate, advance), _WINDOW, _HOP, window=window, length=length)


def _in_room(samples: torch.Tensor, room_s: float, generator: torch.Generator) -> torch.Tensor:
    """Add echoes: exponentially decaying white noise whose energy grows with the reverberation time.

    References:
        Polack 1988, "La transmission de l'énergie sonore dans les salles": late echoes as decaying noise.
    """
    from torchaudio.functional import fftconvolve

    times = torch.arange(1, max(2, round(room_s * SAMPLING_RATE))) / SAMPLING_RATE
    echoes = torch.randn(len(times), generator=generator) * 10 ** (-3 * times / room_s)
    echoes *= (room_s / _EVEN_S / echoes.square().sum()).sqrt()
    return fftconvolve(samples, torch.cat([torch.ones(1), echoes]))[: len(samples)]

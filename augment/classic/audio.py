"""Classic variants of the sound: another pitch, a vocoder's smear, a room and noise, by torchaudio.

The comparison arm of voice conversion. Words, their times and the loudness stay.
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
_EVEN_S = 0.8
"""Reverberation time at which a room's echoes are as loud as the sound that comes straight."""


class ClassicSound:
    """Needs no model; called once a variant."""

    def __init__(self, settings: ClassicSettings) -> None:
        self.settings = settings

    def __call__(
        self, row: dict[str, Any], number: int, seed: int, strength: float = 1.0
    ) -> tuple[bytes, dict[str, Any]]:
        """Make a variant.

        Args:
            row: With a clip's bytes in `audio`.
            number: Which of the clip's variants; told apart by its seed.
            seed: Draws what is done.
            strength: Factor on how much of it there may be, in (0, 1].

        Returns:
            A FLAC file as long and as loud as the source, and what made it.

        Raises:
            MediaError: If the clip cannot be read.
            ValueError: If it is silent.
        """
        samples = media.read_audio(row["audio"]["bytes"])
        # Beside the picture's, which is drawn by the seed itself.
        drawn = self._drawn(np.random.default_rng([seed, 1]), strength)
        made = changed(samples, **drawn)
        return media.encode_audio(made, SAMPLING_RATE), {"method": "classic", **drawn}

    def _drawn(self, rng: np.random.Generator, strength: float = 1.0) -> dict[str, Any]:
        settings = self.settings.weaker(strength).sound
        return {
            "semitones": round(float(rng.uniform(-1, 1) * settings.semitones), 4),
            "stretch": round(float(1 + rng.uniform(-1, 1) * settings.stretch), 4),
            "room_s": round(float(rng.uniform(0, settings.room_s)), 4),
            "snr_db": round(float(rng.uniform(settings.snr_db, CLEAN_DB)), 4),
            "noise_seed": int(rng.integers(2**31)),
        }


def changed(
    samples: np.ndarray, *, semitones: float, stretch: float, room_s: float, snr_db: float, noise_seed: int
) -> np.ndarray:
    """A sound in another pitch, stretched and back, in a room, in noise.

    Args:
        samples: float32 mono at 16 kHz, (samples,), not silent.
        semitones: The pitch is moved by, and the formants with it; 0 changes nothing.
        stretch: Factor on the speed, taken back by its inverse: what stays is the phase vocoder's smear.
            1 changes nothing.
        room_s: Seconds in which the echoes decay by 60 dB; 0 is no room.
        snr_db: Level of white noise below the sound; from `CLEAN_DB` on there is none.
        noise_seed: Draws room and noise.

    Returns:
        float32 (samples,) in [-1, 1]: as many samples, as loud; softer where it would clip.

    Raises:
        ValueError: If it is silent, empty or not finite.
    """
    level = waveform.level("audio", samples)
    sound = torch.from_numpy(samples)
    generator = torch.Generator().manual_seed(noise_seed)
    if semitones:
        sound = shifted(sound, semitones)
    if stretch != 1:
        sound = _fitted(_stretched(_stretched(sound, stretch), 1 / stretch), len(samples))
    sound = _in_room(sound, room_s, generator) if room_s else sound
    sound = _in_noise(sound, snr_db, generator) if snr_db < CLEAN_DB else sound
    return waveform.as_given(
        sound, SAMPLING_RATE, wanted_level=level, sampling_rate=SAMPLING_RATE, length=len(samples)
    )


def shifted(sound: torch.Tensor, semitones: float) -> torch.Tensor:
    """A sound (samples,) stretched, and then played faster: the length stays, pitch and formants move."""
    from torchaudio.functional import resample

    # A resampler's filters are as long as the terms of its ratio.
    ratio = Fraction(2 ** (semitones / 12)).limit_denominator(64)
    longer = _stretched(sound, float(1 / ratio))
    return _fitted(resample(longer, ratio.numerator, ratio.denominator), len(sound))


def _stretched(sound: torch.Tensor, rate: float) -> torch.Tensor:
    """The same at another speed and pitch, (round(samples / rate),)."""
    from torchaudio.functional import phase_vocoder

    window = torch.hann_window(_WINDOW)
    spectrum = torch.stft(
        sound, _WINDOW, _HOP, window=window, return_complex=True, pad_mode="constant", center=True
    )
    advance = torch.linspace(0, math.pi * _HOP, spectrum.shape[-2])[:, None]
    length = max(1, round(len(sound) / rate))
    return torch.istft(phase_vocoder(spectrum, rate, advance), _WINDOW, _HOP, window=window, length=length)


def _in_room(sound: torch.Tensor, room_s: float, generator: torch.Generator) -> torch.Tensor:
    """With echoes: white noise that decays exponentially, of an energy that grows with the room's time.

    References:
        Polack 1988, "La transmission de l'énergie sonore dans les salles": late echoes as decaying noise.
    """
    from torchaudio.functional import fftconvolve

    times = torch.arange(1, max(2, round(room_s * SAMPLING_RATE))) / SAMPLING_RATE
    echoes = torch.randn(len(times), generator=generator) * 10 ** (-3 * times / room_s)
    echoes *= (room_s / _EVEN_S / echoes.square().sum()).sqrt()
    return fftconvolve(sound, torch.cat([torch.ones(1), echoes]))[: len(sound)]


def _in_noise(sound: torch.Tensor, snr_db: float, generator: torch.Generator) -> torch.Tensor:
    from torchaudio.functional import add_noise

    return add_noise(sound, torch.randn(len(sound), generator=generator), torch.tensor(snr_db))


def _fitted(sound: torch.Tensor, length: int) -> torch.Tensor:
    """As many samples, cut or filled with silence at the end."""
    return torch.nn.functional.pad(sound, (0, max(0, length - len(sound))))[:length]

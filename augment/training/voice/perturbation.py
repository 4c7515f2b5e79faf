"""A sound as of another voice, so that what is learnt from it cannot be who speaks.

Ours. A recording has nobody else who says the same in the same time; so the recording is the wanted
result, and the source is the recording disguised: pitch and formants moved together, and the spectrum
coloured. Timing, words and manner stay. What is left of the voice after that leaks.
"""

from __future__ import annotations

import numpy as np
import torch

from augment.classic.audio import shifted
from augment.voice_conversion.mel import SAMPLING_RATE

SEMITONES = 4.0
"""Pitch and formants move by up to so many, either way."""
COLOUR_DB = 6.0
"""Standard deviation of the equaliser's gains, at `_KNOTS_HZ`."""
_KNOTS_HZ = (0.0, 150.0, 400.0, 900.0, 1800.0, 3200.0, 5500.0, 8000.0)


def disguised(samples: torch.Tensor, rng: np.random.Generator) -> tuple[torch.Tensor, float]:
    """A sound in another timbre, in the same time.

    Args:
        samples: At 16 kHz, (samples,).
        rng: Draws the shift and the gains.

    Returns:
        Like it, as long and as loud; and the octaves that its pitch was moved by.
    """
    semitones = float(rng.uniform(-SEMITONES, SEMITONES))
    moved = coloured(shifted(samples, semitones), rng.normal(0, COLOUR_DB, len(_KNOTS_HZ)))
    loudness = samples.square().mean().sqrt() / moved.square().mean().sqrt().clamp(min=1e-9)
    return moved * loudness, semitones / 12


def coloured(samples: torch.Tensor, gains_db: np.ndarray) -> torch.Tensor:
    """A sound (samples,) through an equaliser with gains at `_KNOTS_HZ`, straight lines between them."""
    spectrum = torch.fft.rfft(samples)
    hertz = np.linspace(0, SAMPLING_RATE / 2, len(spectrum))
    gains = 10 ** (np.interp(hertz, _KNOTS_HZ, gains_db) / 20)
    return torch.fft.irfft(spectrum * torch.from_numpy(gains).float(), n=len(samples))

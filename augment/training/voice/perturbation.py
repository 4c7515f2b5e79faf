"""Speaker perturbation: makes speech sound like another voice, so that the model cannot learn who speaks.

Our method. Nobody else says the words of a recording with the same timing. So the recording is the wanted
output, and the source is the recording with its voice perturbed: pitch and formants are shifted together,
and the spectrum is coloured. Timing, words and manner stay. Whatever remains of the voice leaks.
"""

from __future__ import annotations

import numpy as np
import torch

from augment.classic.audio import shifted
from augment.voice_conversion.mel import SAMPLING_RATE

SEMITONES = 4.0  # largest shift of pitch and formants, up or down
COLOUR_DB = 6.0  # standard deviation of the equaliser's gains
_KNOTS_HZ = (0.0, 150.0, 400.0, 900.0, 1800.0, 3200.0, 5500.0, 8000.0)


def perturbed_speech(samples: torch.Tensor, rng: np.random.Generator) -> tuple[torch.Tensor, float]:
    """Perturb the voice of a recording.

    Args:
        samples: At 16 kHz, (samples,).
        rng: Draws the shift and the gains.

    Returns:
        Samples of the same shape and loudness, and the octaves by which the pitch was shifted.
    """
    semitones = float(rng.uniform(-SEMITONES, SEMITONES))
    moved = coloured(shifted(samples, semitones), rng.normal(0, COLOUR_DB, len(_KNOTS_HZ)))
    loudness = samples.square().mean().sqrt() / moved.square().mean().sqrt().clamp(min=1e-9)
    return moved * loudness, semitones / 12


def coloured(samples: torch.Tensor, gains_db: np.ndarray) -> torch.Tensor:
    """Samples (samples,) through an equaliser with gains at `_KNOTS_HZ`, linearly interpolated in dB."""
    spectrum = torch.fft.rfft(samples)
    hertz = np.linspace(0, SAMPLING_RATE / 2, len(spectrum))
    gains = 10 ** (np.interp(hertz, _KNOTS_HZ, gains_db) / 20)
    return torch.fft.irfft(spectrum * torch.from_numpy(gains).float(), n=len(samples))

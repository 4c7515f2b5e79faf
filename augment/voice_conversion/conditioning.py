"""From waveforms to the conditions of the voice converter's transformer, in training and inference."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from augment.voice_conversion import encoders
from augment.voice_conversion.encoders import EncoderInput
from augment.voice_conversion.mel import FLOOR, HOP, log_mel
from augment.voice_conversion.model import Condition, LengthRegulator, VoiceTransformer
from augment.voice_conversion.pitch import excitation

LOUDNESS = 0.05  # root mean square to which every waveform is scaled
# Mean and standard deviation over speech of loudness `LOUDNESS`.
_LOUDNESS_MEAN, _LOUDNESS_STD = -0.7, 1.4
_FLOOR = math.log10(FLOOR)
# Range of the highest cepstral coefficient of an envelope. Below 1 kHz the bands are 35.6 Hz apart, so the
# harmonics of f Hz are at coefficient 2 * 80 * 35.6 / f; an envelope ends at 0.7 of that.
_COEFFICIENTS = (8.0, 20)
_HARMONIC = 4000.0
_FLAT = 4.0  # highest coefficient for a pulse train, whose envelope is flat except for the bands' shapes


class Networks(NamedTuple):
    """The parts of the converter except the vocoder; the encoders are described in `encoders`."""

    content_encoder: Any
    speaker_encoder: Any
    length_regulator: LengthRegulator
    transformer: VoiceTransformer
    content_extractor: Any = None
    speaker_extractor: Any = None

    def trained(self) -> nn.ModuleDict:
        """The networks that are trained, by name: all but the encoders that read samples."""
        extractors = {"content_encoder": self.content_extractor, "speaker_encoder": self.speaker_extractor}
        return nn.ModuleDict(
            {name: getattr(self, name) for name in self._fields[:4] if extractors.get(name) is None}
        )

    def content(self, sounds: EncoderInput) -> torch.Tensor:
        """The content features at the mel spectrogram's frames, (batch, frames, size)."""
        features = encoders.content(self.content_encoder, self.content_extractor, sounds)
        return self.length_regulator(features, sounds.mel.shape[1])

    def condition(self, prompt: Frames, output: Frames, voice: EncoderInput) -> Condition:
        """Concatenate the prompt and the frames to generate.

        Args:
            prompt: Of the reference, with its normalised mel spectrogram.
            output: Of the output; its mel spectrogram is not used.
            voice: Speech of the target speaker.
        """
        return Condition(
            prompt=torch.cat([prompt.mel, torch.zeros_like(output.mel)], 1),
            content=torch.cat([prompt.content, output.content], 1),
            prior_mel=torch.cat([prompt.prior_mel, output.prior_mel], 1),
            prosody=torch.cat([prompt.prosody, output.prosody], 1),
            speaker=encoders.speaker(self.speaker_encoder, self.speaker_extractor, voice),
        )


class Frames(NamedTuple):
    """Features of a stretch of audio, frame by frame."""

    mel: torch.Tensor  # normalised, (batch, frames, bands)
    content: torch.Tensor  # (batch, frames, size)
    prior_mel: torch.Tensor  # normalised, (batch, frames, bands)
    prosody: torch.Tensor  # (batch, frames, 2)


def prior_mel(
    mel: torch.Tensor, pitch: torch.Tensor, target_pitch: torch.Tensor, excitation: torch.Tensor
) -> torch.Tensor:
    """The source at another pitch: the envelope of its spectrum with the harmonics of an excitation.

    Args:
        mel: Log mel spectrogram of the source, (..., frames, bands).
        pitch: Of the source, in Hz, 0 where unvoiced, (..., frames).
        target_pitch: Like `pitch`, of the output.
        excitation: Log mel spectrogram of the excitation with `target_pitch`, (..., frames, bands).

    Returns:
        A log mel spectrogram, (..., frames, bands).
    """
    # The higher the pitch, the lower the coefficients at which its harmonics start.
    highest = (_HARMONIC / pitch.clamp(min=1)).clamp(*_COEFFICIENTS)
    harmonics = excitation - envelope(excitation, torch.full_like(target_pitch, _FLAT))
    return (envelope(mel, highest) + harmonics * (target_pitch > 0)[..., None]).clamp(min=_FLOOR)


def prosody(mel: torch.Tensor, pitch: torch.Tensor) -> torch.Tensor:
    """Loudness, and 1 where voiced, (..., frames, 2)."""
    loudness = ((10**mel).sum(-1).log10() - _LOUDNESS_MEAN) / _LOUDNESS_STD
    return torch.stack([loudness, (pitch > 0).float()], -1)


def excitation_mel(pitch: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
    """Log mel spectrogram (frames, bands) of the excitation with a pitch contour (frames,)."""
    return log_mel(excitation(pitch, len(pitch) * HOP, generator))[: len(pitch)]


def envelope(mel: torch.Tensor, highest: torch.Tensor) -> torch.Tensor:
    """A log mel spectrogram without its fine structure.

    Args:
        mel: (..., frames, bands).
        highest: Each frame's highest cepstral coefficient that is kept, in [0, 20], (..., frames).
    """
    basis = _cosines(mel.shape[-1]).to(mel.device)
    kept = (highest[..., None] - torch.arange(basis.shape[1], device=mel.device) + 0.5).clamp(0, 1)
    return (mel @ basis * kept) @ basis.T


@lru_cache(maxsize=1)
def _cosines(bands: int) -> torch.Tensor:
    """Orthonormal columns of the cosine transform, (bands, coefficients)."""
    order = np.arange(_COEFFICIENTS[1] + 1)
    basis = np.cos((np.arange(bands) + 0.5)[:, None] * order * math.pi / bands) * (2 / bands) ** 0.5
    basis[:, 0] /= 2**0.5
    return torch.from_numpy(basis).float()

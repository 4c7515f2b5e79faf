"""From sounds to what steers the voice converter's transformer; the same in training and in use."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import nn

from augment.voice_conversion import encoders
from augment.voice_conversion.encoders import Heard
from augment.voice_conversion.mel import FLOOR, HOP, log_mel
from augment.voice_conversion.model import Condition, LengthRegulator, VoiceTransformer
from augment.voice_conversion.pitch import excitation

LOUDNESS = 0.05
"""Root mean square that every sound is brought to."""
# Mean and standard deviation over speech of loudness `LOUDNESS`.
_LOUDNESS_MEAN, _LOUDNESS_STD = -0.7, 1.4
_FLOOR = math.log10(FLOOR)
# Cepstral coefficients up to which an envelope reaches. Below 1 kHz the bands lie 35.6 Hz apart, so
# harmonics of f Hz are at coefficient 2 * 80 * 35.6 / f; an envelope ends at 0.7 of that.
_COEFFICIENTS = (8.0, 20)
_HARMONIC = 4000.0
_FLAT = 4.0  # of a pulse train, whose envelope is flat but for the bands' shapes


class Networks(NamedTuple):
    """The parts of the converter but the vocoder; encoders as `voice_encoders` has them."""

    content_encoder: Any
    speaker_encoder: Any
    length_regulator: LengthRegulator
    transformer: VoiceTransformer
    content_extractor: Any = None
    speaker_extractor: Any = None

    def trained(self) -> nn.ModuleDict:
        """The networks that training changes, by their names: all but the encoders that read samples."""
        extractors = {"content_encoder": self.content_extractor, "speaker_encoder": self.speaker_extractor}
        return nn.ModuleDict(
            {name: getattr(self, name) for name in self._fields[:4] if extractors.get(name) is None}
        )

    def content(self, heard: Heard) -> torch.Tensor:
        """What is said, at the mel spectrogram's frames, (batch, frames, size)."""
        said = encoders.content(self.content_encoder, self.content_extractor, heard)
        return self.length_regulator(said, heard.mel.shape[1])

    def condition(self, prompt: Frames, wanted: Frames, voice: Heard) -> Condition:
        """Join the prompt and the frames that are to be made.

        Args:
            prompt: Of the reference, with its normalised mel spectrogram.
            wanted: Of the result; its mel spectrogram is not looked at.
            voice: Of the target speaker.
        """
        return Condition(
            prompt=torch.cat([prompt.mel, torch.zeros_like(wanted.mel)], 1),
            content=torch.cat([prompt.content, wanted.content], 1),
            draft=torch.cat([prompt.draft, wanted.draft], 1),
            prosody=torch.cat([prompt.prosody, wanted.prosody], 1),
            speaker=encoders.speaker(self.speaker_encoder, self.speaker_extractor, voice),
        )


class Frames(NamedTuple):
    """A stretch of sound, frame by frame."""

    mel: torch.Tensor
    """Normalised, (batch, frames, bands)."""
    content: torch.Tensor
    """(batch, frames, size)."""
    draft: torch.Tensor
    """Normalised, (batch, frames, bands)."""
    prosody: torch.Tensor
    """(batch, frames, 2)."""


def draft(mel: torch.Tensor, pitch: torch.Tensor, wanted: torch.Tensor, pulses: torch.Tensor) -> torch.Tensor:
    """What the source would be at another pitch: its spectrum's envelope with the harmonics of an excitation.

    Args:
        mel: Log mel spectrogram of the source, (..., frames, bands).
        pitch: Of the source, in Hz, 0 where unvoiced, (..., frames).
        wanted: As `pitch`, of the draft.
        pulses: Log mel spectrogram of the excitation of `wanted`, (..., frames, bands).

    Returns:
        A log mel spectrogram, (..., frames, bands).
    """
    # The higher the pitch, the lower the coefficients that its harmonics reach down to.
    highest = (_HARMONIC / pitch.clamp(min=1)).clamp(*_COEFFICIENTS)
    harmonics = pulses - envelope(pulses, torch.full_like(wanted, _FLAT))
    return (envelope(mel, highest) + harmonics * (wanted > 0)[..., None]).clamp(min=_FLOOR)


def prosody(mel: torch.Tensor, pitch: torch.Tensor) -> torch.Tensor:
    """How something is said: loudness, and 1 where there is a pitch; (..., frames, 2)."""
    loudness = ((10**mel).sum(-1).log10() - _LOUDNESS_MEAN) / _LOUDNESS_STD
    return torch.stack([loudness, (pitch > 0).float()], -1)


def pulse_mel(pitch: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
    """Log mel spectrogram of the excitation of a contour (frames,), (frames, bands)."""
    return log_mel(excitation(pitch, len(pitch) * HOP, generator))[: len(pitch)]


def envelope(mel: torch.Tensor, highest: torch.Tensor) -> torch.Tensor:
    """A log mel spectrogram without its fine structure.

    Args:
        mel: (..., frames, bands).
        highest: Cepstral coefficient of each frame up to which it is kept, in [0, 20], (..., frames).
    """
    basis = _cosines(mel.shape[-1]).to(mel.device)
    kept = (highest[..., None] - torch.arange(basis.shape[1], device=mel.device) + 0.5).clamp(0, 1)
    return (mel @ basis * kept) @ basis.T


@lru_cache(maxsize=1)
def _cosines(bands: int) -> torch.Tensor:
    """Orthonormal columns of the cosine transform, (bands, coefficients)."""
    from torchaudio.functional import create_dct

    return create_dct(_COEFFICIENTS[1] + 1, bands, "ortho")

"""From sounds to what steers the voice converter's transformer; the same in training and in use."""

from __future__ import annotations

from typing import NamedTuple

import torch

from augment.mel import HOP, log_mel
from augment.pitch import excitation
from augment.voice_conversion_model import (
    Condition,
    ContentEncoder,
    LengthRegulator,
    SpeakerEncoder,
    VoiceTransformer,
)

LOUDNESS = 0.05
"""Root mean square that every sound is brought to."""
# Mean and standard deviation over speech of loudness `LOUDNESS`.
_LOUDNESS_MEAN, _LOUDNESS_STD = -0.7, 1.4
_EXCITATION_MEAN, _EXCITATION_STD = 1.1, 0.6


class Networks(NamedTuple):
    """The trained parts of the converter."""

    content_encoder: ContentEncoder
    speaker_encoder: SpeakerEncoder
    length_regulator: LengthRegulator
    transformer: VoiceTransformer

    def content(self, mel: torch.Tensor) -> torch.Tensor:
        """What is said in a normalised mel spectrogram (batch, frames, bands), (batch, frames, size)."""
        return self.length_regulator(self.content_encoder(mel), mel.shape[1])

    def condition(self, prompt: Frames, wanted: Frames, voice: torch.Tensor) -> Condition:
        """Join the prompt and the frames that are to be made.

        Args:
            prompt: Of the reference, with its normalised mel spectrogram.
            wanted: Of the result; its mel spectrogram is not looked at.
            voice: Normalised mel spectrogram of the target speaker, (batch, frames, bands).
        """
        return Condition(
            prompt=torch.cat([prompt.mel, torch.zeros_like(wanted.mel)], 1),
            content=torch.cat([prompt.content, wanted.content], 1),
            prosody=torch.cat([prompt.prosody, wanted.prosody], 1),
            speaker=self.speaker_encoder(voice),
        )


class Frames(NamedTuple):
    """A stretch of sound, frame by frame."""

    mel: torch.Tensor
    """Normalised, (batch, frames, bands)."""
    content: torch.Tensor
    """(batch, frames, size)."""
    prosody: torch.Tensor
    """(batch, frames, bands + 2)."""


def prosody(mel: torch.Tensor, pitch: torch.Tensor, pulses: torch.Tensor) -> torch.Tensor:
    """How something is said.

    Args:
        mel: Log mel spectrogram that the loudness is read from, (frames, bands).
        pitch: Hz, 0 where unvoiced, (frames,).
        pulses: Its excitation, at least frames * HOP samples.

    Returns:
        (frames, bands + 2): the excitation's mel spectrogram, the loudness, and 1 where voiced.
    """
    spectrum = (log_mel(pulses)[: len(mel)] - _EXCITATION_MEAN) / _EXCITATION_STD
    loudness = ((10**mel).sum(-1).log10() - _LOUDNESS_MEAN) / _LOUDNESS_STD
    return torch.cat([spectrum, loudness[:, None], (pitch > 0).float()[:, None]], 1)


def prosody_of(mel: torch.Tensor, pitch: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """As `prosody`, with an excitation made for it."""
    return prosody(mel, pitch, excitation(pitch, len(pitch) * HOP, generator))

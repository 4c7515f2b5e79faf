"""What the voice converter learns from: stretches of speech with their results and references, in batches."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
import torch

from augment.voice_conversion.conditioning import draft
from augment.voice_conversion.mel import HOP

FRAMES = (70, 100)
"""Least and most frames of a stretch that is to be made, 1.1 to 1.6 s."""
PROMPT_FRAMES = (40, 80)
"""Likewise of a reference's stretch."""


class Lesson(NamedTuple):
    """A stretch of a source, what it is to become, and a stretch of the reference."""

    source_samples: torch.Tensor
    """At 16 kHz, (samples,)."""
    source: torch.Tensor
    """Log mel spectrogram, (frames, 80)."""
    source_pitch: torch.Tensor
    """In Hz, 0 where unvoiced, (frames,)."""
    mel: torch.Tensor
    """Log mel spectrogram of the wanted result, (frames, 80)."""
    pitch: torch.Tensor
    """As `source_pitch`, of the wanted result."""
    pulses: torch.Tensor
    """Log mel spectrogram of its pitch alone, (frames, 80)."""
    prompt_samples: torch.Tensor
    """As `source_samples`, of the reference; so are the next three."""
    prompt: torch.Tensor
    prompt_pitch: torch.Tensor
    prompt_pulses: torch.Tensor


class Batch(NamedTuple):
    """Equally long stretches."""

    source_samples: torch.Tensor
    """Of the source at 16 kHz, (batch, samples)."""
    source: torch.Tensor
    """Log mel spectrogram of the source, with another voice or a disguised one, (batch, frames, 80)."""
    mel: torch.Tensor
    """As `source`, of the wanted result."""
    draft: torch.Tensor
    """As `source`, of the source at the wanted result's pitch."""
    pitch: torch.Tensor
    """Of the wanted result, in Hz, (batch, frames)."""
    prompt_samples: torch.Tensor
    """As `source_samples`, of the reference."""
    prompt: torch.Tensor
    """As `mel`, of the reference."""
    prompt_draft: torch.Tensor
    """As `draft`, of the reference."""
    prompt_pitch: torch.Tensor
    """As `pitch`, of the reference."""


class Speech(Protocol):
    """Speech to learn from."""

    def batch(self, size: int, rng: np.random.Generator) -> Batch:
        """Draw stretches, whose lengths are one for all."""

    def sound(self) -> np.ndarray:
        """One of the sounds, whole and always the same, float32 (samples,) at 16 kHz."""


def lengths(rng: np.random.Generator) -> tuple[int, int]:
    """Draw the frames of a batch's stretches and of its references."""
    return int(rng.integers(FRAMES[0], FRAMES[1] + 1)), int(
        rng.integers(PROMPT_FRAMES[0], PROMPT_FRAMES[1] + 1)
    )


def samples_of(frames: slice) -> slice:
    """The samples of a sound that so many mel frames of it are made of: their count of frames is the same."""
    return slice(frames.start * HOP, (frames.stop - 1) * HOP)


def together(lessons: list[Lesson]) -> Batch:
    """Lessons of the same lengths as a batch."""
    columns = Lesson(*(torch.stack(column).float() for column in zip(*lessons, strict=True)))
    return Batch(
        source_samples=columns.source_samples,
        source=columns.source,
        mel=columns.mel,
        draft=draft(columns.source, columns.source_pitch, columns.pitch, columns.pulses),
        pitch=columns.pitch,
        prompt_samples=columns.prompt_samples,
        prompt=columns.prompt,
        prompt_draft=draft(columns.prompt, columns.prompt_pitch, columns.prompt_pitch, columns.prompt_pulses),
        prompt_pitch=columns.prompt_pitch,
    )

"""Training examples for the voice converter, and their batches."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
import torch

from augment.voice_conversion.conditioning import prior_mel
from augment.voice_conversion.mel import HOP

# Least and most frames of a stretch to generate, 1.1 to 1.6 s, and of a prompt.
FRAMES, PROMPT_FRAMES = (70, 100), (40, 80)


class Example(NamedTuple):
    """A stretch of a source, the wanted output, and a stretch of the reference as prompt."""

    source_samples: torch.Tensor  # at 16 kHz, (samples,)
    source: torch.Tensor  # log mel spectrogram, (frames, 80)
    source_pitch: torch.Tensor  # in Hz, 0 where unvoiced, (frames,)
    mel: torch.Tensor  # log mel spectrogram of the output, (frames, 80)
    pitch: torch.Tensor  # of the output, like `source_pitch`
    excitation_mel: torch.Tensor  # of the output's pitch, (frames, 80)
    prompt_samples: torch.Tensor  # the prompt's features, like those above
    prompt: torch.Tensor
    prompt_pitch: torch.Tensor
    prompt_excitation_mel: torch.Tensor


class Batch(NamedTuple):
    """Stretches of equal length."""

    source_samples: torch.Tensor  # at 16 kHz, (batch, samples)
    source: torch.Tensor  # log mel spectrogram of another or a perturbed voice, (batch, frames, 80)
    mel: torch.Tensor  # of the output, like `source`
    prior_mel: torch.Tensor  # of the source at the output's pitch, like `source`
    pitch: torch.Tensor  # of the output, in Hz, (batch, frames)
    prompt_samples: torch.Tensor  # the prompt's features, like those above
    prompt: torch.Tensor
    prompt_prior_mel: torch.Tensor
    prompt_pitch: torch.Tensor


class Speech(Protocol):
    """Speech to train on."""

    def example(self, rng: np.random.Generator, frames: int, prompt_frames: int) -> Example:
        """Draw an example with so many frames of output and of prompt."""

    def recording(self) -> np.ndarray:
        """One whole recording, always the same, float32 (samples,) at 16 kHz."""


def draw_batch(speech: Speech, size: int, rng: np.random.Generator) -> Batch:
    """Draw a batch of examples; all have the same random lengths."""
    frames, prompt_frames = (int(rng.integers(least, most + 1)) for least, most in (FRAMES, PROMPT_FRAMES))
    examples = [speech.example(rng, frames, prompt_frames) for _ in range(size)]
    columns = Example(*(torch.stack(column).float() for column in zip(*examples, strict=True)))
    prompt_pitch = columns.prompt_pitch
    return Batch(
        source_samples=columns.source_samples,
        source=columns.source,
        mel=columns.mel,
        prior_mel=prior_mel(columns.source, columns.source_pitch, columns.pitch, columns.excitation_mel),
        pitch=columns.pitch,
        prompt_samples=columns.prompt_samples,
        prompt=columns.prompt,
        prompt_prior_mel=prior_mel(columns.prompt, prompt_pitch, prompt_pitch, columns.prompt_excitation_mel),
        prompt_pitch=prompt_pitch,
    )


def samples_of(frames: slice) -> slice:
    """The samples of a recording whose mel spectrogram has exactly these frames."""
    return slice(frames.start * HOP, (frames.stop - 1) * HOP)

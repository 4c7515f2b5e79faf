"""A tiny voice converter of the real parts, and sounds that have a pitch."""

from __future__ import annotations

import numpy as np
import torch

from augment.voice_conversion import VoiceConversionPipeline
from augment.voice_conversion.conditioning import Networks
from augment.voice_conversion.model import (
    ContentEncoder,
    LengthRegulator,
    SpeakerEncoder,
    VoiceTransformer,
)


def networks(seed: int = 0) -> Networks:
    """Networks with random weights everywhere, for the real ones begin with some that are zero."""
    torch.manual_seed(seed)
    made = Networks(
        ContentEncoder(size=16, layers=1),
        SpeakerEncoder(width=8, size=8),
        LengthRegulator(content_size=16, size=8, layers=1),
        VoiceTransformer(content_size=8, speaker_size=8, width=16, layers=2, heads=2, feedforward=16),
    )
    for parameter in made.trained().parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    return made


def converter(seed: int = 0) -> VoiceConversionPipeline:
    """A converter of them."""
    return VoiceConversionPipeline(**networks(seed)._asdict())


def voiced(
    seconds: float, hertz: float = 150.0, sampling_rate: int = 16_000, level: float = 0.05
) -> np.ndarray:
    """Harmonics of a gliding pitch with beats in loudness, float32 of a given root mean square."""
    time = np.arange(round(seconds * sampling_rate)) / sampling_rate
    phase = 2 * np.pi * np.cumsum(hertz * (1 + 0.1 * np.sin(2 * np.pi * time))) / sampling_rate
    sound = sum(np.sin(harmonic * phase) / harmonic for harmonic in range(1, 16))
    sound = sound * (0.6 + 0.4 * np.sin(2 * np.pi * 3 * time))
    return (sound * level / np.sqrt(np.square(sound).mean())).astype(np.float32)

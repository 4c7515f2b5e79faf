"""Who speaks, and in what mood: a vector of the voice, and probabilities of emotions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from score.media.audio import SAMPLING_RATE, Sound
from score.models.hub import named

SHORTEST_S, LONGEST_S = 0.5, 30.0
"""Shorter sounds are padded, as convolutions need their reach; of longer ones the start is heard."""


@dataclass(frozen=True)
class SpeakerEmbedder:
    """An x-vector model."""

    extractor: Any
    model: Any

    def __call__(self, sound: Sound) -> np.ndarray | None:
        """A vector of length 1, (d,); None of silence."""
        made = _through(self.extractor, self.model, sound)
        if made is None:
            return None
        vector = made.embeddings[0].float().cpu().numpy()
        return vector / max(float(np.linalg.norm(vector)), 1e-6)


@dataclass(frozen=True)
class EmotionReader:
    """A classifier of sounds."""

    extractor: Any
    model: Any

    def __call__(self, sound: Sound) -> np.ndarray | None:
        """Class probabilities, (classes,); None of silence."""
        made = _through(self.extractor, self.model, sound)
        return None if made is None else made.logits[0].float().softmax(-1).cpu().numpy()


def load_speaker(name: str, device: str) -> SpeakerEmbedder:
    """Load a model that embeds voices.

    Raises:
        UsageError: If it cannot be had, or embeds no voices.
    """
    return SpeakerEmbedder(*_load("speaker", name, "AutoModelForAudioXVector", device))


def load_emotion(name: str, device: str) -> EmotionReader:
    """Load a classifier of sounds.

    Raises:
        UsageError: If it cannot be had, or is no classifier of sounds.
    """
    return EmotionReader(*_load("emotion", name, "AutoModelForAudioClassification", device))


def _load(key: str, name: str, model_class: str, device: str) -> tuple[Any, Any]:
    source = named(key, name)
    extractor, model = source.load(processor="AutoFeatureExtractor", model=model_class, device=device)
    source.check_hearing(extractor, SAMPLING_RATE)
    return extractor, model


def _through(extractor: Any, model: Any, sound: Sound) -> Any:
    """A model's output for one sound; None of silence."""
    import torch

    if sound.silent:
        return None
    samples = sound.samples[: round(LONGEST_S * SAMPLING_RATE)]
    padded = np.pad(samples, (0, max(0, round(SHORTEST_S * SAMPLING_RATE) - len(samples))))
    inputs = extractor(padded, sampling_rate=SAMPLING_RATE, return_tensors="pt")
    with torch.inference_mode():
        return model(**inputs.to(model.device))

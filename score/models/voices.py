"""Speaker embeddings and emotion probabilities of a clip's audio."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from score.media.audio import SAMPLING_RATE, AudioTrack
from score.models.hub import named

SHORTEST_S, LONGEST_S = 0.5, 30.0
"""Shorter audio is padded, since convolutions need a minimum length; longer audio is cut."""


@dataclass(frozen=True)
class SpeakerEmbedder:
    """An x-vector model."""

    extractor: Any
    model: Any

    def __call__(self, audio: AudioTrack) -> np.ndarray | None:
        """A vector of length 1, (d,); None for silence."""
        output = _run(self.extractor, self.model, audio)
        if output is None:
            return None
        vector = output.embeddings[0].float().cpu().numpy()
        return vector / max(float(np.linalg.norm(vector)), 1e-6)


@dataclass(frozen=True)
class EmotionReader:
    """An audio classifier."""

    extractor: Any
    model: Any

    def __call__(self, audio: AudioTrack) -> np.ndarray | None:
        """Class probabilities, (classes,); None for silence."""
        output = _run(self.extractor, self.model, audio)
        return None if output is None else output.logits[0].float().softmax(-1).cpu().numpy()


def load_speaker(name: str, device: str) -> SpeakerEmbedder:
    """Load a model that embeds voices.

    Raises:
        UsageError: If it cannot be loaded, or does not embed voices.
    """
    return SpeakerEmbedder(*_load("speaker", name, "AutoModelForAudioXVector", device))


def load_emotion(name: str, device: str) -> EmotionReader:
    """Load an audio classifier.

    Raises:
        UsageError: If it cannot be loaded, or is not an audio classifier.
    """
    return EmotionReader(*_load("emotion", name, "AutoModelForAudioClassification", device))


def _load(key: str, name: str, model_class: str, device: str) -> tuple[Any, Any]:
    source = named(key, name)
    extractor, model = source.load(processor="AutoFeatureExtractor", model=model_class, device=device)
    source.check_hearing(extractor, SAMPLING_RATE)
    return extractor, model


def _run(extractor: Any, model: Any, audio: AudioTrack) -> Any:
    """A model's output for one clip; None for silence."""
    import torch

    if audio.silent:
        return None
    samples = audio.samples[: round(LONGEST_S * SAMPLING_RATE)]
    padded = np.pad(samples, (0, max(0, round(SHORTEST_S * SAMPLING_RATE) - len(samples))))
    inputs = extractor(padded, sampling_rate=SAMPLING_RATE, return_tensors="pt")
    with torch.inference_mode():
        return model(**inputs.to(model.device))

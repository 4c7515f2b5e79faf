"""Speaker embeddings and emotion probabilities of a clip's audio."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from score.media.audio import SAMPLING_RATE, AudioTrack
from score.models.settings import named

SHORTEST_S, LONGEST_S = 0.5, 30.0
"""Shorter audio is padded, since convolutions need a minimum length; longer audio is cut."""


@dataclass(frozen=True)
class VoiceModel:
    """An x-vector model or an audio classifier."""

    extractor: Any
    model: Any

    def __call__(self, audio: AudioTrack) -> np.ndarray | None:
        """A speaker embedding of length 1, (d,), or class probabilities, (classes,); None for silence."""
        import torch

        if audio.silent:
            return None
        samples = audio.samples[: round(LONGEST_S * SAMPLING_RATE)]
        padded = np.pad(samples, (0, max(0, round(SHORTEST_S * SAMPLING_RATE) - len(samples))))
        inputs = self.extractor(padded, sampling_rate=SAMPLING_RATE, return_tensors="pt")
        with torch.inference_mode():
            output = self.model(**inputs.to(self.model.device))
        if "embeddings" not in output:
            return output.logits[0].float().softmax(-1).cpu().numpy()
        vector = output.embeddings[0].float().cpu().numpy()
        return vector / max(float(np.linalg.norm(vector)), 1e-6)


def _load(setting: str, model_class: str, name: str, device: str) -> VoiceModel:
    """Load a model.

    Raises:
        UsageError: If it cannot be loaded, or is of another kind.
    """
    source = named(setting, name)
    extractor, model = source.load(processor="AutoFeatureExtractor", model=model_class, device=device)
    source.check_hearing(extractor, SAMPLING_RATE)
    return VoiceModel(extractor, model)


load_speaker = partial(_load, "speaker", "AutoModelForAudioXVector")
load_emotion = partial(_load, "emotion", "AutoModelForAudioClassification")

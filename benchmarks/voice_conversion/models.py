"""Pre-trained models for the metrics of voice conversion, which nothing in this project is trained with.

They are no dependencies of the project; `docs/voice_conversion.md` tells how to install them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from augment.audio.variants import SAMPLING_RATE


@dataclass(frozen=True, kw_only=True)
class Models:
    """Models that take float32 waveforms at 16 kHz, (samples,); None if one is not available."""

    speaker: Callable[[np.ndarray], np.ndarray] | None = None
    """Returns a speaker embedding of unit length."""
    words: Callable[[np.ndarray], str] | None = None
    """Returns the recognised English words."""


def resemblyzer() -> Callable[[np.ndarray], np.ndarray] | None:
    """Resemblyzer's speaker embeddings, or None if it is not installed."""
    try:
        from resemblyzer import VoiceEncoder, preprocess_wav
    except ImportError:
        return None
    encoder = VoiceEncoder("cpu", verbose=False)
    return lambda samples: encoder.embed_utterance(preprocess_wav(samples, source_sr=SAMPLING_RATE))


def moonshine() -> Callable[[np.ndarray], str] | None:
    """Speech recognition by Moonshine's English model, or None if it is not installed with a model."""
    try:
        from moonshine_voice.moonshine_api import ModelArch
        from moonshine_voice.transcriber import Transcriber
        from moonshine_voice.utils import get_model_path
    except ImportError:
        return None
    model = get_model_path("tiny-en")
    if not model.is_dir():
        return None
    transcriber = Transcriber(model_path=str(model), model_arch=ModelArch.TINY)

    def recognise(samples: np.ndarray) -> str:
        lines = transcriber.transcribe_without_streaming(samples.tolist(), SAMPLING_RATE).lines
        return " ".join(line.text for line in lines)

    return recognise

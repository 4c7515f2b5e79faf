"""Who judges a voice converter: pre-trained models that nothing here is trained with.

None of them is a dependency of the project; `docs/voice_conversion.md` tells how to install them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from augment.audio.variants import SAMPLING_RATE


@dataclass(frozen=True, kw_only=True)
class Judges:
    """Takers of float32 waveforms at 16 kHz, (samples,); None where one is not at hand."""

    speaker: Callable[[np.ndarray], np.ndarray] | None = None
    """A speaker's vector of unit length."""
    words: Callable[[np.ndarray], str] | None = None
    """What is understood, in English."""


def resemblyzer() -> Callable[[np.ndarray], np.ndarray] | None:
    """Resemblyzer's speaker vectors, or None where it is not installed."""
    try:
        from resemblyzer import VoiceEncoder, preprocess_wav
    except ImportError:
        return None
    encoder = VoiceEncoder("cpu", verbose=False)
    return lambda samples: encoder.embed_utterance(preprocess_wav(samples, source_sr=SAMPLING_RATE))


def moonshine() -> Callable[[np.ndarray], str] | None:
    """What Moonshine's English model understands, or None where it is not installed with a model inside."""
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

    def understood(samples: np.ndarray) -> str:
        lines = transcriber.transcribe_without_streaming(samples.tolist(), SAMPLING_RATE).lines
        return " ".join(line.text for line in lines)

    return understood

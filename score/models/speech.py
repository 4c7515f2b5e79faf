"""What is said: a recogniser's transcript of a clip's sound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from score.media.audio import SAMPLING_RATE, Sound
from score.models.hub import named

PIECE_S = 30
"""Seconds that are recognised at once; Whisper hears no more."""


@dataclass(frozen=True)
class Recogniser:
    """Whisper, Moonshine or another model of sequences, or a CTC model."""

    pipeline: Any
    """transformers' for speech recognition."""

    def __call__(self, sound: Sound) -> str:
        """The transcript, in the language that the sound is said to be in; empty of silence."""
        if sound.silent:
            return ""
        length = PIECE_S * SAMPLING_RATE
        pieces = (sound.samples[start : start + length] for start in range(0, len(sound.samples), length))
        options = self._options(sound.language)
        heard = [
            self.pipeline({"raw": piece, "sampling_rate": SAMPLING_RATE}, **options)["text"]
            for piece in pieces
        ]
        return " ".join(heard)

    def _options(self, language: str | None) -> dict[str, Any]:
        """Of a model of many languages the one to expect: told by ear, it may change with the variant."""
        settings = self.pipeline.model.generation_config if self.pipeline.model.can_generate() else None
        known = getattr(settings, "lang_to_id", None) or {}
        code = (language or "").split("-")[0].lower()
        if f"<|{code}|>" not in known:
            return {}
        return {"generate_kwargs": {"language": code, "task": "transcribe"}}


def load_speech(name: str, device: str) -> Recogniser:
    """Load a recogniser.

    Raises:
        UsageError: If it cannot be had, or recognises no speech.
    """
    import torch
    import transformers

    source = named("speech", name)
    ctc = type(source.config()) in transformers.MODEL_FOR_CTC_MAPPING
    model_class = "AutoModelForCTC" if ctc else "AutoModelForSpeechSeq2Seq"
    processor, model = source.load(processor="AutoProcessor", model=model_class, device=device)
    return Recogniser(
        transformers.AutomaticSpeechRecognitionPipeline(
            model=model,
            tokenizer=processor.tokenizer,
            feature_extractor=processor.feature_extractor,
            device=torch.device(device),
        )
    )

"""Speech recognition of a clip's audio."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from score.media.audio import SAMPLING_RATE, AudioTrack
from score.models.settings import named

PIECE_S = 30
"""Seconds per call, the most that Whisper takes."""


@dataclass(frozen=True)
class Recogniser:
    """Whisper, Moonshine or another sequence-to-sequence model, or a CTC model."""

    pipeline: Any
    """A speech recognition pipeline of transformers."""

    def __call__(self, audio: AudioTrack) -> str:
        """The transcript, in the language that the corpus names; empty for silence."""
        if audio.silent:
            return ""
        length = PIECE_S * SAMPLING_RATE
        pieces = (audio.samples[start : start + length] for start in range(0, len(audio.samples), length))
        options = self._options(audio.language)
        texts = [
            self.pipeline({"raw": piece, "sampling_rate": SAMPLING_RATE}, **options)["text"]
            for piece in pieces
        ]
        return " ".join(texts)

    def _options(self, language: str | None) -> dict[str, Any]:
        """Fixes a multilingual model's language, which it could otherwise detect differently per variant."""
        settings = self.pipeline.model.generation_config if self.pipeline.model.can_generate() else None
        known = getattr(settings, "lang_to_id", None) or {}
        code = (language or "").split("-")[0].lower()
        if f"<|{code}|>" not in known:
            return {}
        return {"generate_kwargs": {"language": code, "task": "transcribe"}}


def load_speech(name: str, device: str) -> Recogniser:
    """Load a recogniser.

    Raises:
        UsageError: If it cannot be loaded, or does not recognise speech.
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

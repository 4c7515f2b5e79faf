"""Settings of the optional pre-trained models, and how they name a model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipelines.pretrained import Pretrained


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """Pre-trained models that add signals: names on the Hub, NAME or NAME@REVISION, or folders."""

    image: str | None = None
    """Embeds images, for `video_content`: CLIP or SigLIP, as openai/clip-vit-base-patch32."""
    face: Literal["mtcnn"] | None = None
    """Finds faces, for `video_face`, `video_landmarks` and `video_mouth`: mtcnn, of the package
    facenet-pytorch; `expression` then classifies the face instead of the whole frame."""
    expression: str | None = None
    """Classifies the face's expression, for `video_expression`: an image classifier, as
    trpakov/vit-face-expression."""
    speech: str | None = None
    """Recognises speech, for `audio_words`: Whisper, Moonshine or a CTC model, as openai/whisper-small."""
    quality: Literal["dnsmos"] | None = None
    """Rates the quality of speech, for `audio_quality`: dnsmos, of the package speechmos."""
    speaker: str | None = None
    """Embeds voices, for `audio_speaker`: an x-vector model, as microsoft/wavlm-base-plus-sv."""
    emotion: str | None = None
    """Classifies the emotion of speech, for `audio_emotion`: an audio classifier, as
    superb/hubert-base-superb-er."""
    device: str = "auto"
    """Where they run: auto, or a torch device; dnsmos always runs on the CPU."""

    def names(self) -> dict[str, str]:
        """The models that are set, by setting."""
        chosen = {name: value for name, value in vars(self).items() if name != "device"}
        return {name: value for name, value in chosen.items() if value is not None}


def named(key: str, name: str) -> Pretrained:
    """The model that a setting names: a folder, or a Hub id, optionally followed by `@REVISION`."""
    repository, _, revision = (name, "", "") if Path(name).is_dir() else name.partition("@")
    return Pretrained(
        setting=f"score.models.{key}",
        name=repository,
        revision=revision or None,
        advice="takes a Hub id, NAME or NAME@REVISION, or a folder with config, processor and all weights as"
        f" safetensors; leave {key} out to score without it",
    )

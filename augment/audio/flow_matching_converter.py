"""Voice conversion by the project's own pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from augment.audio.settings import FLOW_MATCHING, AudioSettings
from augment.checkpoints import VOICE_CONVERTER
from pipelines import provenance
from pipelines.pretrained import Pretrained

if TYPE_CHECKING:
    from augment.voice_conversion import VoiceConversionPipeline


class FlowMatching:
    """Holds the loaded pipeline."""

    def __init__(self, settings: AudioSettings, device: str) -> None:
        self.settings = settings
        self.pipeline = load_converter(settings.model, settings.revision, device)
        self.weights = {"model": provenance.weights(_path(settings.model), settings.revision)}

    def __call__(
        self,
        source: np.ndarray,
        reference: np.ndarray,
        sampling_rate: int,
        *,
        seed: int,
        pitch_shift: float | None = None,
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Convert a clip, as described in `augment.audio.variants.Converter`."""
        import torch

        settings = self.settings
        made = self.pipeline(
            source,
            reference,
            sampling_rate=sampling_rate,
            num_inference_steps=settings.steps,
            guidance_scale=settings.guidance_scale,
            temperature=settings.temperature,
            pitch_shift=pitch_shift,
            batch_size=settings.batch_size,
            generator=torch.Generator().manual_seed(seed),
        )
        details = {name: getattr(settings, name) for name in FLOW_MATCHING}
        details |= {"weights": self.weights, "precision": "float32"}
        return made, details | {"method": "voice_conversion", "pitch_shift_octaves": pitch_shift}


def load_converter(
    model: str, revision: str | None, device: str, setting: str = "augment.audio.model"
) -> VoiceConversionPipeline:
    """Load a voice converter in single precision.

    Args:
        model: embedded, a directory or a Hub id.
        revision: Of a Hub id.
        device: A torch device.
        setting: The setting that names the model, for messages.

    Raises:
        UsageError: If it does not exist or is no voice converter.
    """
    from augment.voice_conversion import VoiceConversionPipeline

    source = Pretrained(
        setting=setting,
        name=model,
        purpose="as a voice converter",
        advice="take embedded, a directory or a Hub id of one",
    )
    with source.explained():
        pipeline = VoiceConversionPipeline.from_pretrained(
            _path(model), revision=revision, use_safetensors=True
        )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def _path(model: str) -> str:
    return str(VOICE_CONVERTER) if model == "embedded" else model

"""Audio variants: another speaker's voice says a clip's words, in the clip's own time and manner."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from augment.settings import AudioSettings
from pipelines import media
from pipelines.errors import UsageError

if TYPE_CHECKING:
    from augment.voice_conversion import VoiceConversionPipeline
    from augment.voices import VoiceBank

CHECKPOINT = Path(__file__).parent / "checkpoints" / "voice_converter"
SAMPLING_RATE = 16_000
RECORDED = ("model", "revision", "steps", "guidance_scale", "batch_size")
"""Settings that stand in a variant's record as they are."""


class AudioVariants:
    """Holds the loaded converter; called once a variant."""

    def __init__(self, settings: AudioSettings, device: str, bank: VoiceBank) -> None:
        self.settings, self.bank = settings, bank
        self.pipeline = load_converter(settings.model, settings.revision, device)

    def __call__(self, row: dict[str, Any], number: int, seed: int) -> tuple[bytes, dict[str, Any]]:
        """Make a variant.

        Args:
            row: With a clip's bytes in `audio`.
            number: Which of the clip's variants; told apart by its seed.
            seed: Draws the target voice and the noise.

        Returns:
            A FLAC file as long as the source, and what made it.

        Raises:
            MediaError: If the clip or the target's cannot be read.
            ValueError: If one of them is silent, or if there is no other voice.
        """
        import torch

        settings = self.settings
        samples = media.read_audio(row["audio"]["bytes"])
        target = self.bank.draw(row, np.random.default_rng(seed))
        shift = self.bank.apart(row["group"], target.speaker)
        made = self.pipeline(
            samples,
            target.samples,
            sampling_rate=SAMPLING_RATE,
            num_inference_steps=settings.steps,
            guidance_scale=settings.guidance_scale,
            pitch_shift=shift,
            batch_size=settings.batch_size,
            generator=torch.Generator().manual_seed(seed),
        )
        details = {
            "method": "voice_conversion",
            **{key: getattr(settings, key) for key in RECORDED},
            "target_speaker": target.speaker,
            "reference": target.clip,
            "reference_sha256": target.sha256,
            "reference_s": settings.reference_s,
            **({"gender": target.gender} if target.gender else {}),
            "pitch_shift_octaves": shift,
        }
        return media.encode_audio(made, SAMPLING_RATE), details


def load_converter(model: str, revision: str | None, device: str) -> VoiceConversionPipeline:
    """Load a voice converter in single precision.

    Raises:
        UsageError: If it is not there or is no voice converter.
    """
    from augment.voice_conversion import VoiceConversionPipeline

    path = str(CHECKPOINT) if model == "embedded" else model
    try:
        pipeline = VoiceConversionPipeline.from_pretrained(path, revision=revision, use_safetensors=True)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UsageError(
            f"augment.audio.model: {model!r} cannot be loaded as a voice converter ({reason});"
            " take embedded, a directory or a Hub id of one"
        ) from error
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)

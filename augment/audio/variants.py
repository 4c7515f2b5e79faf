"""Audio variants: another speaker's voice says a clip's words, in the clip's own time and manner."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from augment.audio.settings import AudioSettings
from augment.checkpoints import VOICE_CONVERTER
from pipelines import media
from pipelines.pretrained import Pretrained

if TYPE_CHECKING:
    from augment.audio.voice_bank import VoiceBank
    from augment.voice_conversion import VoiceConversionPipeline

SAMPLING_RATE = 16_000
RECORDED = ("model", "revision", "steps", "guidance_scale", "temperature", "batch_size")
"""Settings of `flow_matching` that stand in a variant's record as they are."""


class Converter(Protocol):
    """Gives a clip another voice."""

    def __call__(
        self, source: np.ndarray, reference: np.ndarray, sampling_rate: int, *, seed: int
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """What is made, float32 of the source's shape and rate, and what made it; ValueError if nothing."""


class AudioVariants:
    """Holds the loaded converter; called once a variant."""

    def __init__(self, settings: AudioSettings, device: str, bank: VoiceBank) -> None:
        self.settings, self.bank = settings, bank
        self.converter: Converter | FlowMatching = CONVERTERS[settings.method](settings, device)

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
            ValueError: If one of them is silent, if there is no other voice, or if another program that
                converts failed at it.
            RunError: If that program cannot be started any more.
        """
        samples = media.read_audio(row["audio"]["bytes"])
        target = self.bank.draw(row, np.random.default_rng(seed))
        more = {}
        if isinstance(self.converter, FlowMatching):
            more["pitch_shift"] = self.bank.apart(row["group"], target.speaker)
        made, made_by = self.converter(samples, target.samples, SAMPLING_RATE, seed=seed, **more)
        details = made_by | {
            "target_speaker": target.speaker,
            "reference": target.clip,
            "reference_sha256": target.sha256,
            "reference_s": self.settings.reference_s,
            **({"gender": target.gender} if target.gender else {}),
        }
        return media.encode_audio(made, SAMPLING_RATE), details


class FlowMatching:
    """The project's own pipeline, which is also told how far apart the two voices are."""

    def __init__(self, settings: AudioSettings, device: str) -> None:
        self.settings = settings
        self.pipeline = load_converter(settings.model, settings.revision, device)

    def __call__(
        self,
        source: np.ndarray,
        reference: np.ndarray,
        sampling_rate: int,
        *,
        seed: int,
        pitch_shift: float | None = None,
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """As `Converter`; `pitch_shift` in octaves, None where a voice has no pitch."""
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
        details = {name: getattr(settings, name) for name in RECORDED}
        return made, details | {"method": "voice_conversion", "pitch_shift_octaves": pitch_shift}


def _seed_vc(settings: AudioSettings, device: str) -> Converter:
    from augment.audio.seed_vc import SeedVC

    return SeedVC(settings, device)


def _chatterbox(settings: AudioSettings, device: str) -> Converter:
    from augment.audio.chatterbox import Chatterbox

    return Chatterbox(settings, device)


CONVERTERS: dict[str, Callable[[AudioSettings, str], Converter | FlowMatching]] = {
    "flow_matching": FlowMatching,
    "seed_vc": _seed_vc,
    "chatterbox": _chatterbox,
}


def notes(settings: AudioSettings) -> list[str]:
    """What readers of a dataset with such variants should know, for its card."""
    if settings.method == "seed_vc":
        return ["The sound of variants was made by Seed-VC, a program under the GPL 3.0."]
    if settings.method == "chatterbox":
        watermark = WATERMARKS[settings.chatterbox.watermark]
        return [f"The sound of variants was made by Chatterbox (MIT). {watermark}"]
    return []


WATERMARKS = {
    "off": "It bears no watermark: the one that Chatterbox can set was left out, so that it does not tell"
    " variants from originals.",
    "keep": "Where the installed release sets one, it bears Chatterbox' inaudible watermark"
    " (`audio.watermark` in a row's `generator` says so), and originals do not: a model can learn to"
    " tell them apart by it.",
}


def load_converter(
    model: str, revision: str | None, device: str, setting: str = "augment.audio.model"
) -> VoiceConversionPipeline:
    """Load a voice converter in single precision.

    Args:
        model: embedded, a directory or a Hub id.
        revision: Of a Hub id.
        device: A torch device.
        setting: That named the model, for messages.

    Raises:
        UsageError: If it is not there or is no voice converter.
    """
    from augment.voice_conversion import VoiceConversionPipeline

    path = str(VOICE_CONVERTER) if model == "embedded" else model
    source = Pretrained(
        setting=setting,
        name=model,
        purpose="as a voice converter",
        advice="take embedded, a directory or a Hub id of one",
    )
    with source.explained():
        pipeline = VoiceConversionPipeline.from_pretrained(path, revision=revision, use_safetensors=True)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)

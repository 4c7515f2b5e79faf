"""Audio variants: another speaker's voice says a clip's words, with the same timing and manner."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from augment.audio.methods import METHODS
from augment.audio.settings import AudioSettings
from pipelines import media
from pipelines.device import described

if TYPE_CHECKING:
    from augment.audio.voice_bank import VoiceBank

SAMPLING_RATE = 16_000


class Converter(Protocol):
    """Converts a clip to another voice; constructed from the settings and a device."""

    def __call__(
        self, source: np.ndarray, reference: np.ndarray, sampling_rate: int, *, seed: int, **more: Any
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Convert a clip.

        Args:
            source: float32 mono (samples,) in [-1, 1].
            reference: The target voice, like `source`.
            sampling_rate: Of both, in Hz.
            seed: Of everything that is drawn.
            more: `pitch_shift`, in octaves, if the method's entry asks for it; None if a voice has no pitch.

        Returns:
            float32 with the source's shape and rate, and how it was made, with the `weights` and the
            `precision`.

        Raises:
            ValueError: If the clip cannot be converted.
        """


class AudioVariants:
    """Holds the loaded converter; called once per variant."""

    def __init__(self, settings: AudioSettings, device: str, bank: VoiceBank) -> None:
        self.settings, self.device, self.bank = settings, described(device), bank
        self.method = METHODS[settings.method]
        module, name = self.method.converter.split(":")
        self.converter: Converter = getattr(import_module(module), name)(settings, device)

    def __call__(self, row: dict[str, Any], seed: int) -> tuple[bytes, dict[str, Any]]:
        """Make a variant.

        Args:
            row: A row with the clip's bytes in `audio`.
            seed: Draws the target voice and the noise.

        Returns:
            A FLAC file as long as the source, and how it was made.

        Raises:
            MediaError: If the clip or the target's clip cannot be read.
            ValueError: If one of them is silent, there is no other voice, or an external converter failed.
            RunError: If an external converter cannot be restarted.
        """
        samples = media.read_audio(row["audio"]["bytes"])
        target = self.bank.draw(row, np.random.default_rng(seed))
        more = {}
        if self.method.pitch_shift:
            more["pitch_shift"] = self.bank.pitch_difference(row["group"], target.speaker)
        made, made_by = self.converter(samples, target.samples, SAMPLING_RATE, seed=seed, **more)
        details = made_by | {
            "device": self.device,
            "target_speaker": target.speaker,
            "reference": target.clip,
            "reference_sha256": target.sha256,
            "reference_s": self.settings.reference_s,
            **({"gender": target.gender} if target.gender else {}),
        }
        return media.encode_audio(made, SAMPLING_RATE), details


def notes(settings: AudioSettings) -> list[str]:
    """Notes for the card of a dataset with such variants."""
    own = settings.own()
    return [own.note] if own else []

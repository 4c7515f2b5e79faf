"""Audio variants: another speaker's voice says a clip's words, in the clip's own time and manner."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from augment.audio.methods import METHODS
from augment.audio.settings import AudioSettings
from pipelines import media

if TYPE_CHECKING:
    from augment.audio.voice_bank import VoiceBank

SAMPLING_RATE = 16_000


class Converter(Protocol):
    """Gives a clip another voice; made of the settings and a device."""

    def __call__(
        self, source: np.ndarray, reference: np.ndarray, sampling_rate: int, *, seed: int, **more: Any
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Convert a clip.

        Args:
            source: float32 mono (samples,) in [-1, 1].
            reference: The target voice, like `source`.
            sampling_rate: Of both, in Hz.
            seed: Of all that is drawn.
            more: `pitch_shift`, in octaves, where the method's entry asks for it; None where a voice has no
                pitch.

        Returns:
            float32 of the source's shape and rate, and what made it.

        Raises:
            ValueError: If the clip cannot be converted.
        """


class AudioVariants:
    """Holds the loaded converter; called once a variant."""

    def __init__(self, settings: AudioSettings, device: str, bank: VoiceBank) -> None:
        self.settings, self.bank = settings, bank
        self.method = METHODS[settings.method]
        module, name = self.method.converter.split(":")
        self.converter: Converter = getattr(import_module(module), name)(settings, device)

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
        if self.method.pitch_shift:
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


def notes(settings: AudioSettings) -> list[str]:
    """What readers of a dataset with such variants should know, for its card."""
    own = settings.own()
    return [own.note] if own else []

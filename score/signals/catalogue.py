"""The signals, in one place: what each is about, its range, and what a bad value of it is.

Every weighed signal is the better the higher it is. A store has one column `score_<name>` each.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from pipelines.row import MEDIA, Row, provenance
from score.media.clip import Clip
from score.models.observers import Observers
from score.signals import audio, face, pretrained, sync, video

Modality = Literal["video", "audio", "cross"]
MODALITIES: tuple[Modality, ...] = get_args(Modality)
# The two ways to make a bad pair from originals: another clip's track, or, where that would be as good
# as the own, the own spoiled: the picture blurred and its frames shuffled, the sound in noise. Of
# `neither` the values speak for themselves, and the usual ones hold everywhere.
Bad = Literal["mismatched", "spoiled", "neither"]

# What is judged of a kind of row at most: the tracks that it replaced, and how they go with the rest.
JUDGED: dict[str, tuple[Modality, ...]] = {
    "video": ("video", "cross"),
    "audio": ("audio", "cross"),
    "both": ("video", "audio", "cross"),
    "classic": ("video", "audio", "cross"),
}


def judged(row: Row) -> tuple[Modality, ...]:
    """What is judged of a row: of a classic one the tracks that its `generator` says it replaced.

    Where that says nothing, it replaced the picture. Nothing is judged of an original.
    """
    modalities = JUDGED.get(row["kind"], ())
    if row["kind"] != "classic":
        return modalities
    made = provenance(row)
    replaced = [track for track in MEDIA if track in made] or ["video"]
    return tuple(modality for modality in modalities if modality in (*replaced, "cross"))


@dataclass(frozen=True, kw_only=True)
class Signal:
    """What is known of a signal beforehand."""

    modality: Modality
    """It applies to the kinds of rows whose `JUDGED` names this."""
    measure: Callable[[Any, Any], float] | None
    """From the track of variant and source, of `cross` from the clips; None for the agreements, which are
    computed once all rows are measured, and for what is read from a file."""
    direction: Literal["higher", "none"] = "higher"
    """Which values are better; of `none` the signal tells how much is new, and is no part of a quality."""
    bad: Bad = "mismatched"
    chance: bool = False
    """Whether clips that have nothing to do with each other may have a good value by chance."""
    usual: tuple[float, float] | None = None
    """Bad and good value where a corpus has too few clips to find its own; None leaves it out there."""
    version: int = 1
    """Raised when what it measures changes: the rows that it applies to are then measured again."""
    model: str | None = None
    """The setting of the pre-trained model that it needs, `label` the file of what one said; without it the
    signal is left out."""

    @property
    def against_only(self) -> bool:
        """Whether another clip may have as good a value: it speaks against a variant, and not for it."""
        return self.chance or self.bad != "mismatched"


SIGNALS: dict[str, Signal] = {
    "video_flicker": Signal(modality="video", measure=video.flicker, bad="spoiled", usual=(0.3, 0.97)),
    "video_structure": Signal(modality="video", measure=video.structure, usual=(0.3, 0.97)),
    "video_motion": Signal(modality="video", measure=video.motion, usual=(0.0, 0.97)),
    "video_sharpness": Signal(modality="video", measure=video.sharpness, bad="spoiled", usual=(0.3, 0.97)),
    "video_agreement": Signal(modality="video", measure=None, chance=True),
    "video_novelty": Signal(modality="video", measure=video.novelty, direction="none"),
    "audio_pitch": Signal(modality="audio", measure=audio.pitch, usual=(0.0, 0.99)),
    "audio_energy": Signal(modality="audio", measure=audio.energy, usual=(0.1, 0.99)),
    "audio_articulation": Signal(modality="audio", measure=audio.articulation, usual=(0.1, 0.99)),
    "audio_clarity": Signal(modality="audio", measure=audio.clarity, bad="spoiled", usual=(-22, -4)),
    "audio_agreement": Signal(modality="audio", measure=None, chance=True),
    "audio_novelty": Signal(modality="audio", measure=audio.novelty, direction="none"),
    "cross_sync": Signal(modality="cross", measure=sync.measure, usual=(-0.7, 0.0)),
    "cross_agreement": Signal(modality="cross", measure=None, chance=True),
    "video_content": Signal(modality="video", measure=pretrained.content, usual=(0.7, 0.97), model="image"),
    "video_face": Signal(
        modality="video", measure=face.measure_found, bad="neither", usual=(0.5, 0.9), model="face"
    ),
    "video_landmarks": Signal(
        modality="video", measure=face.measure_landmarks, usual=(0.1, 0.65), model="face"
    ),
    "video_mouth": Signal(modality="video", measure=face.measure_mouth, usual=(0.3, 0.75), model="face"),
    "video_expression": Signal(
        modality="video", measure=pretrained.expression, chance=True, usual=(0.5, 0.95), model="expression"
    ),
    "audio_words": Signal(modality="audio", measure=pretrained.words, usual=(-0.8, -0.1), model="speech"),
    "audio_quality": Signal(
        modality="audio", measure=pretrained.quality, bad="spoiled", usual=(-1.1, -0.4), model="quality"
    ),
    "audio_emotion": Signal(
        modality="audio", measure=pretrained.emotion, chance=True, usual=(0.5, 0.95), model="emotion"
    ),
    "audio_speaker": Signal(modality="audio", measure=pretrained.speaker, direction="none", model="speaker"),
    "cross_label": Signal(modality="cross", measure=None, bad="neither", usual=(-1.6, -0.2), model="label"),
}


WEIGHED = [name for name, signal in SIGNALS.items() if signal.direction != "none"]
"""The signals that a quality is made of."""


def column(name: str) -> str:
    """The store's column of a signal."""
    return f"score_{name}"


def versions(modalities: Collection[Modality], models: Collection[str]) -> dict[str, int]:
    """The version of each signal that is measured of these modalities, with these models."""
    return {
        name: signal.version
        for name, signal in SIGNALS.items()
        if signal.measure and signal.modality in modalities and signal.model in (None, *models)
    }


def of_models(settings: Collection[str]) -> list[str]:
    """The signals that need one of these models."""
    return [name for name, signal in SIGNALS.items() if signal.model in settings]


def measure(
    variant: Clip, source: Clip, modalities: Sequence[Modality], observers: Observers | None = None
) -> dict[str, float]:
    """The signals of these modalities, by name; NaN for all others and where one cannot be told.

    Args:
        variant: What is judged.
        source: What it is judged against.
        modalities: Of the signals.
        observers: The pre-trained models that there are; signals of others cannot be told.
    """
    observers = observers or Observers()
    values = dict.fromkeys(SIGNALS, float("nan"))
    for name, signal in SIGNALS.items():
        compared = _compared(variant, source, signal.modality)
        if signal.measure is None or signal.modality not in modalities or compared is None:
            continue
        if signal.model is not None and not observers.observe(signal.model, (variant, source)):
            continue
        values[name] = signal.measure(*compared)
    return values


def _compared(variant: Clip, source: Clip, modality: Modality) -> tuple[Any, Any] | None:
    """What a signal is measured from; None where a track lacks, or the source's sound is silent."""
    names = {"video": ("picture",), "audio": ("sound",), "cross": ("picture", "sound")}[modality]
    if any(getattr(clip, name) is None for clip in (variant, source) for name in names):
        return None
    if modality == "cross":
        return variant, source
    if modality == "video":
        return variant.picture, source.picture
    assert source.sound is not None
    return None if source.sound.silent else (variant.sound, source.sound)

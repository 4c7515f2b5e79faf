"""The table of signals: what each compares, and which pairs have a bad value of it.

Higher is better for every weighed signal. A store has one column `score_<name>` for each.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal, get_args

from pipelines.row import MEDIA, Row, provenance
from score.media.clip import Clip
from score.media.delay import same_moments_of_audio, same_moments_of_video
from score.models.feature_extractors import FeatureExtractors, extract
from score.signals import activity, audio, pretrained, pretrained_face, sync, timing, video

Modality = Literal["video", "audio", "cross"]
MODALITIES: tuple[Modality, ...] = get_args(Modality)
Bad = Literal["mismatched", "corrupted", "neither"]
"""How a bad pair is made from originals: with another clip's track, or, where that could have as good a
value, by corrupting the clip's own (frames blurred and shuffled, audio with noise). `neither`: the values
mean the same on every corpus, and the default anchors always hold."""

# The modalities measured of each kind of row: the tracks that it replaced, and how they fit the rest.
JUDGED: dict[str, tuple[Modality, ...]] = {
    "video": ("video", "cross"),
    "audio": ("audio", "cross"),
    "both": ("video", "audio", "cross"),
    "classic": ("video", "audio", "cross"),
}


def judged(row: Row) -> tuple[Modality, ...]:
    """The modalities that are measured of a row; none of an original.

    For a classic variant, the tracks that its `generator` lists as replaced; the video if it lists none.
    """
    modalities = JUDGED.get(row["kind"], ())
    if row["kind"] != "classic":
        return modalities
    made = provenance(row)
    replaced = [track for track in MEDIA if track in made] or ["video"]
    return tuple(modality for modality in modalities if modality in (*replaced, "cross"))


@dataclass(frozen=True)
class Signal:
    """A signal and how it is calibrated."""

    modality: Modality
    """It applies to the kinds of rows whose `JUDGED` has this modality."""
    measure: Callable[[Any, Any], float] | None
    """Takes the tracks of variant and source, or the clips for `cross`. None for the agreements, which are
    computed once all rows are measured, and for values read from a file."""
    _: KW_ONLY
    direction: Literal["higher", "none"] = "higher"
    """Which values are better. `none`: the signal measures novelty and is not part of a quality."""
    bad: Bad = "mismatched"
    chance: bool = False
    """Whether unrelated clips may have a good value by chance."""
    mood: bool = False
    """Whether it tells the mood, not how well a clip is made; `score.whole_split` says how much it counts."""
    whole: bool = False
    """Whether it compares the tracks from end to end; others, those of models aside, compare the moments that
    both have."""
    default_anchors: tuple[float, float] | None = None
    """Bad and good value if a corpus has too few clips to find its own; None leaves the signal out there."""
    version: int = 1
    """Raised when its definition changes: the rows that it applies to are then measured again."""
    model: str | None = None
    """The setting of the pre-trained model that it needs, or `label` for the file of label probabilities;
    without it the signal is left out."""

    @property
    def veto_only(self) -> bool:
        """Whether another clip may have as good a value, so that it can only lower its track's quality."""
        return (self.chance or self.bad != "mismatched") and not self.mood


SIGNALS: dict[str, Signal] = {
    "video_flicker": Signal("video", video.flicker, bad="corrupted", default_anchors=(0.3, 0.97)),
    "video_structure": Signal("video", video.structure, default_anchors=(0.3, 0.97), version=2),
    "video_motion": Signal("video", video.motion, default_anchors=(0.0, 0.97)),
    "video_activity": Signal(
        "video", activity.activity, bad="corrupted", default_anchors=(0.4, 0.9), version=2
    ),
    "video_length": Signal(
        "video", timing.length_of_video, bad="neither", whole=True, default_anchors=(-0.3, -0.1)
    ),
    "video_delay": Signal(
        "video", timing.delay_of_video, bad="neither", whole=True, default_anchors=(-0.2, -0.04)
    ),
    "video_sharpness": Signal("video", video.sharpness, bad="corrupted", default_anchors=(0.3, 0.97)),
    "video_agreement": Signal("video", None, chance=True, mood=True),
    "video_novelty": Signal("video", video.novelty, direction="none"),
    "audio_pitch": Signal("audio", audio.pitch, default_anchors=(0.0, 0.99)),
    "audio_energy": Signal("audio", audio.energy, default_anchors=(0.1, 0.99)),
    "audio_articulation": Signal("audio", audio.articulation, default_anchors=(0.1, 0.99)),
    "audio_dropouts": Signal("audio", audio.dropouts, bad="corrupted", default_anchors=(-17, -8)),
    "audio_length": Signal(
        "audio", timing.length_of_audio, bad="neither", whole=True, default_anchors=(-0.3, -0.1)
    ),
    "audio_delay": Signal(
        "audio", timing.delay_of_audio, bad="neither", whole=True, default_anchors=(-0.2, -0.04)
    ),
    "audio_clarity": Signal("audio", audio.clarity, bad="corrupted", default_anchors=(-22, -4)),
    "audio_agreement": Signal("audio", None, chance=True, mood=True),
    "audio_novelty": Signal("audio", audio.novelty, direction="none"),
    "cross_sync": Signal("cross", sync.measure, default_anchors=(-0.7, 0.0)),
    "video_content": Signal("video", pretrained.content, default_anchors=(0.7, 0.97), model="image"),
    "video_face": Signal(
        "video", pretrained_face.presence, bad="neither", default_anchors=(0.5, 0.9), model="face"
    ),
    "video_landmarks": Signal(
        "video", pretrained_face.head_motion, default_anchors=(0.1, 0.65), model="face"
    ),
    "video_mouth": Signal("video", pretrained_face.mouth_motion, default_anchors=(0.3, 0.75), model="face"),
    "video_expression": Signal(
        "video", pretrained.expression, chance=True, default_anchors=(0.5, 0.95), model="expression"
    ),
    "audio_words": Signal("audio", pretrained.words, default_anchors=(-0.8, -0.1), model="speech"),
    "audio_quality": Signal(
        "audio", pretrained.quality, bad="corrupted", default_anchors=(-1.1, -0.4), model="quality"
    ),
    "audio_emotion": Signal(
        "audio", pretrained.emotion, chance=True, default_anchors=(0.5, 0.95), model="emotion"
    ),
    "audio_speaker": Signal("audio", pretrained.speaker, direction="none", model="speaker"),
    "cross_label": Signal("cross", None, bad="neither", default_anchors=(-1.6, -0.2), model="label"),
}


SAME_MOMENTS: dict[str, Callable[[Any, Any], tuple[Any, Any]]] = {
    "video": same_moments_of_video,
    "audio": same_moments_of_audio,
}
"""Takes a track of variant and source, and gives what signals compare moment by moment."""
WEIGHED = [name for name, signal in SIGNALS.items() if signal.direction != "none"]
"""The signals that are part of a quality."""


def column(name: str) -> str:
    """The store's column for a signal."""
    return f"score_{name}"


def versions(modalities: Collection[Modality], models: Collection[str]) -> dict[str, int]:
    """The version of each signal that is measured for these modalities with these models."""
    return {
        name: signal.version
        for name, signal in SIGNALS.items()
        if signal.measure and signal.modality in modalities and signal.model in (None, *models)
    }


def of_models(settings: Collection[str]) -> list[str]:
    """The signals that need one of these models."""
    return [name for name, signal in SIGNALS.items() if signal.model in settings]


def measure(
    variant: Clip,
    source: Clip,
    modalities: Sequence[Modality],
    feature_extractors: FeatureExtractors | None = None,
) -> dict[str, float]:
    """The signals of these modalities, by name; NaN for all others and where one cannot be computed.

    Args:
        variant: The clip to measure.
        source: The clip it is compared with.
        modalities: Which signals to measure.
        feature_extractors: The available pre-trained models; signals of others are NaN.
    """
    values = dict.fromkeys(SIGNALS, float("nan"))
    for modality in modalities:
        compared = _compared(variant, source, modality)
        if compared is None:
            continue
        same_moments = SAME_MOMENTS[modality](*compared) if modality in SAME_MOMENTS else compared
        for name, signal in SIGNALS.items():
            if signal.measure is None or signal.modality != modality:
                continue
            if signal.model is None:
                values[name] = signal.measure(*(compared if signal.whole else same_moments))
            elif extract(feature_extractors or {}, signal.model, (variant, source)):
                values[name] = signal.measure(*compared)
    return values


def _compared(variant: Clip, source: Clip, modality: Modality) -> tuple[Any, Any] | None:
    """The arguments of a signal's function; None if a track is missing or the source's audio is silent."""
    names = MEDIA if modality == "cross" else (modality,)
    if any(getattr(clip, name) is None for clip in (variant, source) for name in names):
        return None
    if modality == "cross":
        return variant, source
    if modality == "audio" and source.audio is not None and source.audio.silent:
        return None
    return getattr(variant, modality), getattr(source, modality)

"""The settings of the stage: section `augment` of a recipe.

Imports nothing heavy, so that `--help` and errors in a recipe appear at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from augment.audio.settings import AudioSettings
from augment.classic.settings import ClassicSettings, Track
from augment.ranges import check_ranges
from augment.video.methods import METHODS
from augment.video.settings import VideoSettings


@dataclass(frozen=True, kw_only=True)
class RetrySettings:
    """Making variants of low quality again: with `--scores`, or as part of `daq-msa run`."""

    attempts: int = 0
    """How often a variant is made again at most; 0 turns this off."""
    below: float = 0.5
    """Variants with a `quality` below this, in (0, 1], or without one, are made again."""
    budget: float | None = None
    """How many may be made again in total, as a share of all variants, above 0; the worst come first. Null
    sets no limit."""
    strength: float = 1.0
    """Factor on the edit's strength at each further attempt, in (0, 1]; 1 changes the seed only. It has no
    effect on audio and on video methods that have no strength."""

    def __post_init__(self) -> None:
        limits = {
            "attempts": "[0, inf]",
            "below": "(0, 1]",
            "budget": "(0, inf] or null",
            "strength": "(0, 1]",
        }
        check_ranges(self, **limits)


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Stage 1a: variants of the training clips."""

    video: VideoSettings = field(default_factory=VideoSettings)
    """Video variants, by diffusion from the source's latents."""
    audio: AudioSettings = field(default_factory=AudioSettings)
    """Audio variants, by voice conversion."""
    both: int = 0
    """Variants of each clip with new video and a new voice together."""
    classic: ClassicSettings = field(default_factory=ClassicSettings)
    """Variants of video or audio without diffusion."""
    retries: RetrySettings = field(default_factory=RetrySettings)
    """Making variants of low quality again."""
    device: str = "auto"
    """Where the models run: auto, cpu, cuda, cuda:1, mps."""

    def __post_init__(self) -> None:
        check_ranges(self, both="[0, inf]")

    @property
    def converts(self) -> bool:
        """Whether any variant gets another voice."""
        return self.audio.variants > 0 or self.both > 0

    def variants(self) -> dict[str, int]:
        """How many variants of each kind a clip gets."""
        counts = {"video": self.video.variants, "audio": self.audio.variants, "both": self.both}
        return counts | {"classic": self.classic.variants}

    def replaces(self, kind: str) -> tuple[Track, ...]:
        """The tracks that a kind of variant replaces, video first."""
        both: tuple[Track, ...] = ("video", "audio")
        if kind == "classic":
            return tuple(track for track in both if track in self.classic.tracks)
        return tuple(track for track in both if kind in (track, "both"))

    def strength(self, kind: str, attempt: int) -> float:
        """The factor on the strength of a variant's edit at an attempt, counted from 0."""
        fixed = kind == "audio" or (kind != "classic" and not METHODS[self.video.method].has_strength)
        return 1.0 if fixed else self.retries.strength**attempt

"""The settings of the stage: section `augment` of a recipe.

Imports nothing heavy, so that `--help` and a mistyped recipe are answered at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from augment.audio.settings import AudioSettings
from augment.classic.settings import ClassicSettings, Track
from augment.video.methods import METHODS
from augment.video.settings import VideoSettings


@dataclass(frozen=True, kw_only=True)
class RetrySettings:
    """Variants made again that score badly: by `--scores`, or in the course of `daq-msa run`."""

    attempts: int = 0
    """How often a variant is made again at most; 0 makes none again."""
    below: float = 0.5
    """A variant of lower `quality` is made again, in (0, 1], and so is one that has none."""
    budget: float | None = None
    """How many may be made again in all, as a share of all variants, above 0; the worst come first. Null sets
    no limit."""
    strength: float = 1.0
    """Factor on the edit's strength at each further attempt, in (0, 1]; 1 changes the seed alone. So it is
    whatever this says with what has no strength, audio and `wan_vace`."""

    def __post_init__(self) -> None:
        if self.attempts < 0:
            raise ValueError(f"attempts: {self.attempts} is negative; take 0 or more")
        for name in ("below", "strength"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name}: {getattr(self, name)} is outside (0, 1]")
        if self.budget is not None and self.budget <= 0:
            raise ValueError(f"budget: {self.budget} is too small; take more than 0, or null")


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Stage 1a: variants of the training clips."""

    video: VideoSettings = field(default_factory=VideoSettings)
    """Video variants, by diffusion from the source's latents."""
    audio: AudioSettings = field(default_factory=AudioSettings)
    """Audio variants, by voice conversion."""
    both: int = 0
    """Variants of each clip with a new picture and a new voice together."""
    classic: ClassicSettings = field(default_factory=ClassicSettings)
    """Variants of picture or sound without diffusion."""
    retries: RetrySettings = field(default_factory=RetrySettings)
    """Variants made again that score badly."""
    device: str = "auto"
    """Where the models run: auto, cpu, cuda, cuda:1, mps."""

    def __post_init__(self) -> None:
        if self.both < 0:
            raise ValueError(f"both: {self.both} is negative; take 0 or more")

    @property
    def converts(self) -> bool:
        """Whether any variant gets another voice."""
        return self.audio.variants > 0 or self.both > 0

    def variants(self) -> dict[str, int]:
        """How many variants of each kind a clip gets."""
        counts = {"video": self.video.variants, "audio": self.audio.variants, "both": self.both}
        return counts | {"classic": self.classic.variants}

    def replaces(self, kind: str) -> tuple[Track, ...]:
        """The tracks that a kind of variant replaces, the picture first."""
        tracks: dict[str, tuple[Track, ...]] = {
            "video": ("video",),
            "audio": ("audio",),
            "both": ("video", "audio"),
            "classic": tuple(sorted(self.classic.tracks, reverse=True)),
        }
        return tracks[kind]

    def strength(self, kind: str, attempt: int) -> float:
        """The factor on the strength of a variant's edit at an attempt, from 0 on."""
        fixed = kind == "audio" or (kind != "classic" and not METHODS[self.video.method].has_strength)
        return 1.0 if fixed else self.retries.strength**attempt

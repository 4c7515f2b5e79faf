"""The settings of the stage: section `augment` of a recipe.

Imports nothing heavy, so that `--help` and a mistyped recipe are answered at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from augment.styles import styles_for


@dataclass(frozen=True, kw_only=True)
class VideoSettings:
    """Video variants by FateZero. The defaults suit the embedded model."""

    variants: int = 1
    """Video variants of each training clip."""
    model: str = "embedded"
    """A Stable Diffusion 1.x checkpoint: `embedded`, which ships with the project and knows drawn heads
    only, a Hub id, or a directory."""
    revision: str | None = None
    """Revision of a Hub id."""
    styles: tuple[str, ...] = ()
    """Presets to draw from; empty takes all that suit the model."""
    source_prompt: str = "a person talking"
    """What every clip shows; a style's words are put in front of it."""
    size: int = 64
    """Pixels of the longer side while frames are edited; 512 for Stable Diffusion."""
    steps: int = 6
    """Steps of inversion and of the edit, at least 1."""
    guidance_spread: float = 0.2
    """A style's guidance is multiplied by a factor drawn from 1 - this to 1 + this, in [0, 1)."""
    window: int = 14
    """Frames edited together, at least 2: the clip's middle frame and others."""
    own_frame: bool = True
    """Whether a frame attends to itself too, not to the middle frame alone; keeps a mouth's motion."""
    key_frame_min_channels: int = 64
    """Narrower blocks of the UNet look at each frame alone; 640 for Stable Diffusion."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Of the weights; auto is float16 on CUDA and float32 elsewhere."""

    def __post_init__(self) -> None:
        for name, least in (("variants", 0), ("size", 16), ("steps", 1), ("window", 2)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}: {getattr(self, name)} is too small; take {least} or more")
        if not 0 <= self.guidance_spread < 1:
            raise ValueError(f"guidance_spread: {self.guidance_spread} is outside [0, 1)")
        known = styles_for(self.model)
        for style in self.styles:
            if style not in known:
                raise ValueError(f"styles: {style!r} is unknown to {self.model}; take {', '.join(known)}")


@dataclass(frozen=True, kw_only=True)
class AudioSettings:
    """Audio variants by voice conversion."""

    variants: int = 1
    """Audio variants of each training clip."""
    model: str = "embedded"
    """A voice converter: `embedded`, which ships with the project and was trained on synthetic voices,
    a Hub id, or a directory."""
    revision: str | None = None
    """Revision of a Hub id."""
    voices: str = "corpus"
    """Target voices: `corpus` for the other speakers of the training split, or a folder of speech with
    a subfolder a speaker."""
    reference_s: float = 8.0
    """Seconds of a target's clip that are listened to, from its beginning; at least 1."""
    steps: int = 10
    """Euler steps from noise to speech, at least 1."""
    guidance_scale: float = 0.7
    """How far to go beyond the conditional field, at least 0; 0 takes half the time."""

    def __post_init__(self) -> None:
        for name, least in (("variants", 0), ("reference_s", 1), ("steps", 1), ("guidance_scale", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}: {getattr(self, name)} is too small; take {least} or more")


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Stage 1a: variants of the training clips."""

    video: VideoSettings = field(default_factory=VideoSettings)
    """Video variants, by diffusion from the source's latents."""
    audio: AudioSettings = field(default_factory=AudioSettings)
    """Audio variants, by voice conversion."""
    both: int = 0
    """Variants of each clip with a new picture and a new voice together."""
    device: str = "auto"
    """Where the models run: auto, cpu, cuda, cuda:1, mps."""

    def __post_init__(self) -> None:
        if self.both < 0:
            raise ValueError(f"both: {self.both} is negative; take 0 or more")

    def variants(self) -> dict[str, int]:
        """How many variants of each kind a clip gets."""
        return {"video": self.video.variants, "audio": self.audio.variants, "both": self.both}

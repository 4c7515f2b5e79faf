"""Settings of the stage: video variants.

Imports nothing heavy, as `augment.settings`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from augment.video.methods import METHODS, MethodName
from augment.video.styles import styles_for


@dataclass(frozen=True, kw_only=True)
class FateZeroSettings:
    """What only the method `fatezero` has."""

    guidance_spread: float = 0.2
    """A style's guidance is multiplied by a factor drawn from 1 - this to 1 + this, in [0, 1)."""
    own_frame: bool = True
    """Whether a frame attends to itself too, not to the middle frame alone; keeps a mouth's motion."""
    key_frame_min_channels: int = 64
    """Narrower blocks of the UNet look at each frame alone; 640 for Stable Diffusion."""
    latents: str = "none"
    """A folder where each clip's inversion is kept, so that another style of it inverts nothing; `none` keeps
    none."""

    def __post_init__(self) -> None:
        if not 0 <= self.guidance_spread < 1:
            raise ValueError(f"guidance_spread: {self.guidance_spread} is outside [0, 1)")


@dataclass(frozen=True, kw_only=True)
class VideoToVideoSettings:
    """What all other methods have: they noise a clip, or only look at it, and make it again from words."""

    strength: float = 0.5
    """Share of the steps that are run, from as much noise, in (0, 1]; 1 keeps nothing. Not of `wan_vace`."""
    guidance_scale: float = 5.0
    """How hard the result is pushed towards the words, at least 1."""
    negative_prompt: str = "blurry, distorted"
    """What it is pushed away from."""
    motion_adapter: str = "guoyww/animatediff-motion-adapter-v1-5-2"
    """The motion module of `animatediff`, a Hub id or a directory."""
    conditioning_scale: float = 1.0
    """How closely `wan_vace` follows the source's light and shade, above 0."""

    def __post_init__(self) -> None:
        if not 0 < self.strength <= 1:
            raise ValueError(f"strength: {self.strength} is outside (0, 1]")
        if self.guidance_scale < 1:
            raise ValueError(f"guidance_scale: {self.guidance_scale} is too small; take 1 or more")
        if self.conditioning_scale <= 0:
            raise ValueError(f"conditioning_scale: {self.conditioning_scale} is too small; take more than 0")


@dataclass(frozen=True, kw_only=True)
class VideoSettings:
    """Video variants by diffusion. The defaults suit the embedded model."""

    variants: int = 1
    """Video variants of each training clip."""
    method: MethodName = "fatezero"
    """What edits: `fatezero`; `sdedit`, Stable Diffusion image by image with one noise for all frames; or a
    video model, `animatediff`, `cogvideox`, `wan`, or `wan_vace`."""
    model: str = "embedded"
    """A checkpoint that the method takes: a Hub id, or a directory. `embedded`, which ships with the project
    and knows drawn heads only, is of Stable Diffusion 1.x, for `fatezero` and `sdedit`."""
    revision: str | None = None
    """Revision of a Hub id."""
    styles: tuple[str, ...] = ()
    """Presets to draw from; empty takes all that suit the model."""
    source_prompt: str = "a person talking"
    """What every clip shows; a style's words are put in front of it."""
    captioner: str | None = None
    """An image captioner of transformers, a Hub id or a directory, whose words for a clip's middle frame take
    the place of `source_prompt`."""
    captioner_revision: str | None = None
    """Revision of a captioner's Hub id."""
    crop: Literal["none", "paste", "keep"] = "none"
    """Whether face and shoulders alone are edited, and then pasted back or kept as the whole picture."""
    fps: float | None = None
    """Frames a second that are edited, each shown until the next; null edits every frame."""
    size: int = 64
    """Pixels of the longer side while frames are edited; 512 for Stable Diffusion."""
    steps: int = 6
    """Steps of the diffusion, of `fatezero` those of inversion and of the edit; at least 1."""
    window: int = 14
    """Frames edited together, at least 2; with `fatezero` the clip's middle frame is one of them."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Of the weights; auto is float16 on CUDA (bfloat16 for `wan`, `wan_vace` and `cogvideox`) and float32
    elsewhere."""
    compile: bool = False
    """Whether the denoising network is compiled by torch, of `fatezero` its transformer blocks; for GPUs."""
    fatezero: FateZeroSettings = field(default_factory=FateZeroSettings)
    """Of `fatezero` alone."""
    video_to_video: VideoToVideoSettings = field(default_factory=VideoToVideoSettings)
    """Of the other methods."""

    def __post_init__(self) -> None:
        for name, least in (("variants", 0), ("size", 16), ("steps", 1), ("window", 2)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}: {getattr(self, name)} is too small; take {least} or more")
        if self.fps is not None and self.fps <= 0:
            raise ValueError(f"fps: {self.fps} is too small; take more than 0, or null")
        method = METHODS[self.method]
        if self.model == "embedded" and not method.takes_embedded:
            raise ValueError(
                f"model: 'embedded' is no checkpoint for {self.method}; name one, such as {method.checkpoint}"
            )
        noised = method.section == "video_to_video" and method.has_strength
        if noised and self.steps * self.video_to_video.strength < 1:
            raise ValueError(
                f"video_to_video.strength: {self.video_to_video.strength} of {self.steps} steps is less than"
                " one step; raise one of them"
            )
        known = styles_for(self.model)
        for style in self.styles:
            if style not in known:
                raise ValueError(f"styles: {style!r} is unknown to {self.model}; take {', '.join(known)}")

    def used(self) -> dict[str, Any]:
        """What a variant depends on: neither how many there are, nor another method's settings, nor where
        inversions are kept."""
        values = asdict(self)
        values.pop("variants")
        values["fatezero"].pop("latents")
        for section in ("fatezero", "video_to_video"):
            if section != METHODS[self.method].section:
                del values[section]
        return values

    def models(self) -> list[str]:
        """The weights that a variant depends on, each a Hub id, a folder or `embedded`."""
        own = [self.video_to_video.motion_adapter] if METHODS[self.method].motion_adapter else []
        return [self.model, *([self.captioner] if self.captioner else []), *own]

"""Settings of video variants.

Imports nothing heavy, like `augment.settings`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from augment.ranges import check_ranges
from augment.video.methods import METHODS, MethodName
from augment.video.styles import styles_for


@dataclass(frozen=True, kw_only=True)
class FateZeroSettings:
    """Settings of the method `fatezero`."""

    guidance_spread: float = 0.2
    """A style's guidance scale is multiplied by a factor drawn from 1 - this to 1 + this, in [0, 1)."""
    own_frame: bool = True
    """Whether a frame also attends to itself, not only to the middle frame; keeps the mouth's motion."""
    key_frame_min_channels: int = 64
    """In narrower blocks of the UNet each frame attends to itself only; 640 for Stable Diffusion."""
    latents: str = "none"
    """A folder for the clips' inversions, which other styles of a clip then reuse; `none` stores none."""

    def __post_init__(self) -> None:
        check_ranges(self, guidance_spread="[0, 1)")


@dataclass(frozen=True, kw_only=True)
class VideoToVideoSettings:
    """Settings of all other methods, which add noise to a clip, or use it as a condition, and denoise it."""

    strength: float = 0.5
    """Share of the steps, and so of the noise, in (0, 1]; 1 keeps nothing. `augment.video.methods` says which
    methods have no strength (`has_strength`) and do not read it."""
    guidance_scale: float = 5.0
    """Scale of classifier-free guidance towards the prompt, at least 1."""
    negative_prompt: str = "blurry, distorted"
    """The prompt that guidance leads away from."""
    motion_adapter: str = "guoyww/animatediff-motion-adapter-v1-5-2"
    """The motion module of `animatediff`, a Hub id or a directory."""
    conditioning_scale: float = 1.0
    """How closely `wan_vace` follows the source's luminance, above 0."""

    def __post_init__(self) -> None:
        check_ranges(self, strength="(0, 1]", guidance_scale="[1, inf]", conditioning_scale="(0, inf]")


@dataclass(frozen=True, kw_only=True)
class VideoSettings:
    """Video variants by diffusion. The defaults suit the embedded model."""

    variants: int = 1
    """Video variants of each training clip."""
    method: MethodName = "fatezero"
    """The editor, a key of `augment.video.methods.METHODS`; `docs/video_variants.md` describes each."""
    model: str = "embedded"
    """A checkpoint that fits the method: a Hub id, or a directory. `embedded` is a small Stable Diffusion 1.x
    that ships with the project and knows drawn heads only; not every method takes it."""
    revision: str | None = None
    """Revision of the model's Hub id."""
    allow_embedded: bool = False
    """Whether `embedded` may edit clips that are not drawn, whose faces it ruins; to try a recipe out."""
    styles: tuple[str, ...] = ()
    """Presets to draw from; empty takes all that fit the model."""
    source_prompt: str = "a person talking"
    """A prompt for every clip; a style's words are put in front of it."""
    captioner: str | None = None
    """An image captioner from transformers, a Hub id or a directory, whose caption of a clip's middle frame
    replaces `source_prompt`."""
    captioner_revision: str | None = None
    """Revision of the captioner's Hub id."""
    crop: Literal["none", "paste", "keep"] = "none"
    """Whether only face and shoulders are edited, and then pasted back or kept as the whole frame."""
    fps: float | None = None
    """Frames per second that are edited, each shown until the next; null edits every frame."""
    size: int = 64
    """Pixels of the longer side during editing, at least 16; 512 for Stable Diffusion."""
    steps: int = 6
    """Diffusion steps, with `fatezero` of the inversion and of the edit each; at least 1."""
    window: int = 14
    """Frames edited together, at least 2; with `fatezero` including the clip's middle frame."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Precision of the weights; auto is float32 on a CPU, and on CUDA float16, or bfloat16 for methods whose
    checkpoints are published in it."""
    compile: bool = False
    """Whether torch compiles the denoising network, with `fatezero` its transformer blocks; for GPUs."""
    fatezero: FateZeroSettings = field(default_factory=FateZeroSettings)
    """For `fatezero` only."""
    video_to_video: VideoToVideoSettings = field(default_factory=VideoToVideoSettings)
    """For the other methods."""

    def __post_init__(self) -> None:
        limits = {"variants": "[0, inf]", "size": "[16, inf]", "steps": "[1, inf]", "window": "[2, inf]"}
        check_ranges(self, **limits, fps="(0, inf] or null")
        method = METHODS[self.method]
        if self.model == "embedded" and not method.takes_embedded:
            raise ValueError(
                f"model: 'embedded' is no checkpoint for {self.method}; name one, such as {method.checkpoint}"
            )
        noised = method.pipeline and method.has_strength  # an editor of its own may read no strength
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
        """What a variant depends on: not their number, a permission, other methods' settings, or where
        inversions are kept."""
        values = asdict(self)
        del values["variants"], values["allow_embedded"]
        values["fatezero"].pop("latents")
        for section in ("fatezero", "video_to_video"):
            if section != METHODS[self.method].section:
                del values[section]
        return values

    def models(self) -> list[str]:
        """The models that a variant depends on, each a Hub id, a folder or `embedded`."""
        own = [self.video_to_video.motion_adapter] if METHODS[self.method].motion_adapter else []
        return [self.model, *([self.captioner] if self.captioner else []), *own]

"""Frames made again by diffusers' own video-to-video pipelines.

All but `wan_vace` add noise to the clip and take it away again, led by the words (SDEdit, ICLR
2022); `wan_vace` makes a clip from noise that has the source's light and shade. Long clips go in
windows that begin from the same noise. Nothing but that keeps a style alike over windows, so a
window should be as long as the model takes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image

from augment.video.editor import as_bytes, load, unet_unit, windows
from augment.video.settings import VideoSettings
from augment.video.styles import Style
from pipelines.errors import RowError
from pipelines.pretrained import Pretrained


@dataclass(frozen=True, kw_only=True)
class Method:
    """How one of diffusers' pipelines is loaded and called."""

    load: Callable[[VideoSettings, str, str], Any]
    """From settings, device and precision."""
    arguments: Callable[[VideoSettings, list[Image.Image]], dict[str, Any]]
    """What it takes beside words, steps, guidance and size."""
    unit: Callable[[Any], int]
    """Of a loaded pipeline, what the frames' sides are multiples of."""
    rhythm: int = 1
    """A window has a multiple of this and one frame; the last frame is repeated to reach that."""
    images: bool = False
    """Whether it makes images, each from words and a generator of its own, and not a video."""


class VideoToVideoEditor:
    """Holds the loaded pipeline.

    Raises:
        UsageError: If the model is not one of the method's.
    """

    def __init__(self, settings: VideoSettings, device: str, precision: str) -> None:
        self.settings, self.precision, self.method = settings, precision, METHODS[settings.method]
        self.pipeline = self.method.load(settings, device, precision)
        self.unit = self.method.unit(self.pipeline)
        if settings.compile:
            (getattr(self.pipeline, "unet", None) or self.pipeline.transformer).compile()

    def check(self, style: Style, source_prompt: str) -> None:
        """Raise `ValueError` if the words of a style are more than the model takes."""
        tokenizer = self.pipeline.tokenizer
        most = tokenizer.model_max_length
        for prompt in (style.prompt(source_prompt), self.settings.video_to_video.negative_prompt):
            found = len(tokenizer(prompt, verbose=False).input_ids)
            if found > most:
                raise ValueError(
                    f"prompt: {prompt!r} has {found} tokens, the text encoder takes {most}; shorten it"
                )

    def edit(
        self,
        frames: np.ndarray,
        source_prompt: str,
        style: Style,
        rng: np.random.Generator,
        strength: float = 1.0,
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Edit frames, as `video_editors.Editor` says; the noise is drawn."""
        noise_seed = int(rng.integers(2**31))
        drawn: dict[str, Any] = {"noise_seed": noise_seed}
        settings, prompt = self.settings, style.prompt(source_prompt)
        if strength < 1:
            settings = weaker(settings, strength)
            drawn["video_to_video"] = asdict(settings.video_to_video)
        edited = [
            self._window(window, prompt, noise_seed, settings) for window in windows(frames, settings.window)
        ]
        return np.concatenate(edited), drawn

    def _window(
        self, frames: np.ndarray, prompt: str, noise_seed: int, settings: VideoSettings
    ) -> np.ndarray:
        length = len(frames)
        missing = -(length - 1) % self.method.rhythm
        pictures = [Image.fromarray(frame) for frame in (*frames, *[frames[-1]] * missing)]
        words: dict[str, Any] = {
            "prompt": prompt,
            "negative_prompt": settings.video_to_video.negative_prompt,
            "generator": torch.Generator().manual_seed(noise_seed),
        }
        if self.method.images:
            words = {name: [value] * len(pictures) for name, value in words.items()}
            words["generator"] = [torch.Generator().manual_seed(noise_seed) for _ in pictures]
        made = self.pipeline(
            num_inference_steps=settings.steps,
            guidance_scale=settings.video_to_video.guidance_scale,
            output_type="np",
            **words,
            **self.method.arguments(settings, pictures),
        )
        if self.method.images and any(made.nsfw_content_detected or ()):
            raise RowError(
                f"video: the safety checker of {settings.model!r} blacked out frames of the edit; leave the"
                " clip out, or take another style or a lower augment.video.video_to_video.strength"
            )
        shown = made.images if self.method.images else made.frames[0]
        return as_bytes(np.asarray(shown)[:length])


def weaker(settings: VideoSettings, strength: float) -> VideoSettings:
    """Settings with `strength` times the strength, yet one step at least."""
    own = settings.video_to_video
    one_step = (1 + 1e-6) / settings.steps  # rounded down to steps, it is one
    lowered = min(own.strength, max(own.strength * strength, one_step))
    return replace(settings, video_to_video=replace(own, strength=lowered))


def _loader(name: str, exact: tuple[str, ...] = ()) -> Callable[[VideoSettings, str, str], Any]:
    def loaded(settings: VideoSettings, device: str, precision: str) -> Any:
        import diffusers

        return load(settings, getattr(diffusers, name).from_pretrained, device, precision, exact=exact)

    return loaded


def _load_animatediff(settings: VideoSettings, device: str, precision: str) -> Any:
    from diffusers import AnimateDiffVideoToVideoPipeline, DDIMScheduler, MotionAdapter

    source = Pretrained(
        setting="augment.video.video_to_video.motion_adapter",
        name=settings.video_to_video.motion_adapter,
        advice="take a Hub id or a directory of a motion adapter for Stable Diffusion 1.5",
    )
    with source.explained():
        adapter = MotionAdapter.from_pretrained(
            source.name, use_safetensors=True, dtype=getattr(torch, precision)
        )
    open_ = AnimateDiffVideoToVideoPipeline.from_pretrained
    pipeline = load(settings, open_, device, precision, motion_adapter=adapter)
    # The schedule that the published motion modules were trained with.
    pipeline.scheduler = DDIMScheduler.from_config(
        pipeline.scheduler.config, beta_schedule="linear", clip_sample=False, timestep_spacing="linspace"
    )
    return pipeline


def patch_unit(pipeline: Any) -> int:
    """Pixels a patch of a video transformer's latents."""
    patch = pipeline.transformer.config.patch_size
    side = patch if isinstance(patch, int) else patch[-1]
    return pipeline.vae_scale_factor_spatial * side


def _from_video(settings: VideoSettings, pictures: list[Image.Image]) -> dict[str, Any]:
    return {"video": pictures, "strength": settings.video_to_video.strength} | _size(pictures)


def _from_images(settings: VideoSettings, pictures: list[Image.Image]) -> dict[str, Any]:
    return {"image": pictures, "strength": settings.video_to_video.strength}


def _from_shade(settings: VideoSettings, pictures: list[Image.Image]) -> dict[str, Any]:
    """Light and shade of every frame, and a mask that says that all of it is to be made."""
    white = Image.new("L", pictures[0].size, 255)
    return {
        "video": [picture.convert("L").convert("RGB") for picture in pictures],
        "mask": [white] * len(pictures),
        "num_frames": len(pictures),
        "conditioning_scale": settings.video_to_video.conditioning_scale,
    } | _size(pictures)


def _size(pictures: list[Image.Image]) -> dict[str, Any]:
    return {"height": pictures[0].height, "width": pictures[0].width}


# Four frames of these video models are one step of their latents, but for the first.
_FOURS: dict[str, Any] = {"rhythm": 4, "unit": patch_unit}
# Its autoencoder is published for single precision.
_WAN_EXACT = ("vae",)
METHODS = {
    "sdedit": Method(
        load=_loader("StableDiffusionImg2ImgPipeline"), arguments=_from_images, unit=unet_unit, images=True
    ),
    "animatediff": Method(load=_load_animatediff, arguments=_from_video, unit=unet_unit),
    "cogvideox": Method(load=_loader("CogVideoXVideoToVideoPipeline"), arguments=_from_video, **_FOURS),
    "wan": Method(load=_loader("WanVideoToVideoPipeline", _WAN_EXACT), arguments=_from_video, **_FOURS),
    "wan_vace": Method(load=_loader("WanVACEPipeline", _WAN_EXACT), arguments=_from_shade, **_FOURS),
}

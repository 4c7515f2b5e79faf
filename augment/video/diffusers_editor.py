"""Frames made again by diffusers' own video-to-video pipelines.

All but `wan_vace` add noise to the clip and take it away again, led by the words (SDEdit, ICLR
2022); `wan_vace` makes a clip from noise that has the source's light and shade. Long clips go in
windows that begin from the same noise. Nothing but that keeps a style alike over windows, so a
window should be as long as the model takes.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import diffusers
import numpy as np
import torch
from PIL import Image

from augment.video.editor import as_bytes, check_flags, check_prompts, load, unet_unit, windows
from augment.video.methods import METHODS
from augment.video.settings import VideoSettings
from augment.video.styles import Style
from pipelines.pretrained import Pretrained


class DiffusersEditor:
    """Holds the loaded pipeline.

    Raises:
        UsageError: If the model is not one of the method's.
    """

    def __init__(self, settings: VideoSettings, device: str, precision: str) -> None:
        self.settings, self.precision, self.method = settings, precision, METHODS[settings.method]
        self.pipeline = _loaded(settings, device, precision)
        has_unet = hasattr(self.pipeline, "unet")
        self.unit = (unet_unit if has_unet else patch_unit)(self.pipeline)
        if settings.compile:
            (self.pipeline.unet if has_unet else self.pipeline.transformer).compile()

    def check(self, style: Style, source_prompt: str) -> None:
        """Raise `ValueError` if the words of a style are more than the model takes."""
        negative = self.settings.video_to_video.negative_prompt
        check_prompts(self.pipeline.tokenizer, style.prompt(source_prompt), negative)

    def edit(
        self,
        frames: np.ndarray,
        source_prompt: str,
        style: Style,
        rng: np.random.Generator,
        strength: float = 1.0,
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Edit frames, as `augment.video.editor.Editor` says; the noise is drawn."""
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
        missing = -(length - 1) % self.method.temporal_stride
        images = self.method.shown == "images"
        pictures = [Image.fromarray(frame) for frame in (*frames, *[frames[-1]] * missing)]
        words: dict[str, Any] = {
            "prompt": prompt,
            "negative_prompt": settings.video_to_video.negative_prompt,
            "generator": torch.Generator().manual_seed(noise_seed),
        }
        if images:
            words = {name: [value] * len(pictures) for name, value in words.items()}
            words["generator"] = [torch.Generator().manual_seed(noise_seed) for _ in pictures]
        made = self.pipeline(
            num_inference_steps=settings.steps,
            guidance_scale=settings.video_to_video.guidance_scale,
            output_type="np",
            **words,
            **SHOWN[self.method.shown](settings, pictures),
        )
        if images:
            check_flags(made.nsfw_content_detected, settings)
        shown = made.images if images else made.frames[0]
        return as_bytes(np.asarray(shown)[:length])


def weaker(settings: VideoSettings, strength: float) -> VideoSettings:
    """Settings with `strength` times the strength, yet one step at least."""
    own = settings.video_to_video
    one_step = (1 + 1e-6) / settings.steps  # rounded down to steps, it is one
    lowered = min(own.strength, max(own.strength * strength, one_step))
    return replace(settings, video_to_video=replace(own, strength=lowered))


def _loaded(settings: VideoSettings, device: str, precision: str) -> Any:
    method = METHODS[settings.method]
    parts = {"motion_adapter": _motion_adapter(settings, precision)} if method.motion_adapter else {}
    open_ = getattr(diffusers, method.pipeline).from_pretrained
    pipeline = load(settings, open_, device, precision, exact=method.float32, **parts)
    if method.motion_adapter:
        # The schedule that the published motion modules were trained with.
        pipeline.scheduler = diffusers.DDIMScheduler.from_config(
            pipeline.scheduler.config,
            beta_schedule="linear",
            clip_sample=False,
            timestep_spacing="linspace",
        )
    return pipeline


def _motion_adapter(settings: VideoSettings, precision: str) -> Any:
    source = Pretrained(
        setting="augment.video.video_to_video.motion_adapter",
        name=settings.video_to_video.motion_adapter,
        advice="take a Hub id or a directory of a motion adapter for Stable Diffusion 1.5",
    )
    with source.explained():
        return diffusers.MotionAdapter.from_pretrained(
            source.name, use_safetensors=True, dtype=getattr(torch, precision)
        )


def patch_unit(pipeline: Any) -> int:
    """Pixels a patch of a video transformer's latents."""
    patch = pipeline.transformer.config.patch_size
    side = patch if isinstance(patch, int) else patch[-1]
    return pipeline.vae_scale_factor_spatial * side


def _as_video(settings: VideoSettings, frames: list[Image.Image]) -> dict[str, Any]:
    return {"video": frames, "strength": settings.video_to_video.strength} | _size(frames)


def _as_images(settings: VideoSettings, frames: list[Image.Image]) -> dict[str, Any]:
    return {"image": frames, "strength": settings.video_to_video.strength}


def _as_shade(settings: VideoSettings, frames: list[Image.Image]) -> dict[str, Any]:
    """Light and shade of every frame, and a mask that says that all of it is to be made."""
    white = Image.new("L", frames[0].size, 255)
    return {
        "video": [frame.convert("L").convert("RGB") for frame in frames],
        "mask": [white] * len(frames),
        "num_frames": len(frames),
        "conditioning_scale": settings.video_to_video.conditioning_scale,
    } | _size(frames)


def _size(frames: list[Image.Image]) -> dict[str, Any]:
    return {"height": frames[0].height, "width": frames[0].width}


SHOWN = {"video": _as_video, "images": _as_images, "shade": _as_shade}
"""The arguments that a pipeline is given of the clip, by `Method.shown`."""

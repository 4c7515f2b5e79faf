"""Video editing by diffusers' own video-to-video pipelines.

All methods but `wan_vace` add noise to the clip and denoise it with the prompt (SDEdit, ICLR 2022);
`wan_vace` generates a clip from noise, conditioned on the source's luminance. Long clips are processed in
windows that start from the same noise. Nothing else keeps the style consistent across windows, so a window
should be as long as the model allows.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import diffusers
import numpy as np
import torch
from PIL import Image

from augment.video.editor import as_bytes, check_flags, check_prompts, load, unet_size_multiple, windows
from augment.video.methods import METHODS, Method
from augment.video.settings import VideoSettings
from augment.video.styles import Style
from pipelines.pretrained import Pretrained


class DiffusersEditor:
    """Holds the loaded pipeline.

    Raises:
        UsageError: If the model does not fit the method.
    """

    def __init__(self, settings: VideoSettings, device: str, precision: str) -> None:
        self.settings, self.precision, self.method = settings, precision, METHODS[settings.method]
        self.pipeline = _load_pipeline(settings, self.method, device, precision)
        has_unet = hasattr(self.pipeline, "unet")
        self.size_multiple = (unet_size_multiple if has_unet else patch_size_multiple)(self.pipeline)
        if settings.compile:
            (self.pipeline.unet if has_unet else self.pipeline.transformer).compile()

    def check(self, style: Style, source_prompt: str) -> None:
        """Raise `ValueError` if a style's prompt has more tokens than the model takes."""
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
        """Edit frames, as described in `augment.video.editor.Editor`; the noise is drawn."""
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
        images = [Image.fromarray(frame) for frame in (*frames, *[frames[-1]] * missing)]
        shared: dict[str, Any] = {
            "prompt": prompt,
            "negative_prompt": settings.video_to_video.negative_prompt,
            "generator": torch.Generator().manual_seed(noise_seed),
        }
        frame_by_frame = self.method.shown == "images"
        if frame_by_frame:
            shared = {name: [value] * len(images) for name, value in shared.items()}
            shared["generator"] = [torch.Generator().manual_seed(noise_seed) for _ in images]
        made = self.pipeline(
            num_inference_steps=settings.steps,
            guidance_scale=settings.video_to_video.guidance_scale,
            output_type="np",
            **shared,
            **_clip_arguments(self.method, settings, images),
        )
        if frame_by_frame:
            check_flags(made.nsfw_content_detected, settings)
        return as_bytes(np.asarray(made.images if frame_by_frame else made.frames[0])[:length])


def weaker(settings: VideoSettings, strength: float) -> VideoSettings:
    """Settings with `strength` times the strength, but enough for one step."""
    own = settings.video_to_video
    one_step = (1 + 1e-6) / settings.steps  # pipelines round down to whole steps
    lowered = min(own.strength, max(own.strength * strength, one_step))
    return replace(settings, video_to_video=replace(own, strength=lowered))


def patch_size_multiple(pipeline: Any) -> int:
    """Frame sides must be multiples of this: the pixels of one patch of a video transformer's latents."""
    patch = pipeline.transformer.config.patch_size
    side = patch if isinstance(patch, int) else patch[-1]
    return pipeline.vae_scale_factor_spatial * side


def _load_pipeline(settings: VideoSettings, method: Method, device: str, precision: str) -> Any:
    open_ = getattr(diffusers, method.pipeline).from_pretrained
    if not method.motion_adapter:
        return load(settings, open_, device, precision, exact=method.float32)
    source = Pretrained(
        setting="augment.video.video_to_video.motion_adapter",
        name=settings.video_to_video.motion_adapter,
        advice="take a Hub id or a directory of a motion adapter for Stable Diffusion 1.5",
    )
    with source.explained():
        adapter = diffusers.MotionAdapter.from_pretrained(
            source.name, use_safetensors=True, dtype=getattr(torch, precision)
        )
    pipeline = load(settings, open_, device, precision, exact=method.float32, motion_adapter=adapter)
    # The schedule that the published motion modules were trained with.
    pipeline.scheduler = diffusers.DDIMScheduler.from_config(
        pipeline.scheduler.config, beta_schedule="linear", clip_sample=False, timestep_spacing="linspace"
    )
    return pipeline


def _clip_arguments(method: Method, settings: VideoSettings, frames: list[Image.Image]) -> dict[str, Any]:
    """The arguments that pass the clip to a pipeline, by `Method.shown`."""
    own = settings.video_to_video
    if method.shown == "images":
        return {"image": frames, "strength": own.strength}
    size = {"height": frames[0].height, "width": frames[0].width}
    if method.shown == "video":
        return {"video": frames, "strength": own.strength} | size
    # The luminance of all frames, and a mask that marks everything as to be generated.
    return {
        "video": [frame.convert("L").convert("RGB") for frame in frames],
        "mask": [Image.new("L", frames[0].size, 255)] * len(frames),
        "num_frames": len(frames),
        "conditioning_scale": own.conditioning_scale,
    } | size

"""Video variants: a clip's frames edited by FateZero into a style drawn by seed, sound and words untouched.

Long clips are edited in windows. Each window is led by the clip's middle frame, to which all frames
attend, so that the style is the same in all windows. A variant has exactly its source's frames,
rate and size, so lips stay with the sound.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from augment.settings import VideoSettings
from augment.styles import Style, styles_for
from pipelines import media
from pipelines.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from augment.fatezero import FateZeroPipeline

CHECKPOINT = Path(__file__).parent / "checkpoints" / "stable_diffusion"
_CASTS = {"float32": "float", "bfloat16": "bfloat16", "float16": "half"}


class VideoVariants:
    """Holds the loaded pipeline; called once a variant."""

    def __init__(self, settings: VideoSettings, device: str) -> None:
        """Load the model.

        Raises:
            UsageError: If it is no Stable Diffusion 1.x, or a prompt is too long for it.
        """
        self.settings = settings
        self.precision = _precision(settings.precision, device)
        self.pipeline = load_pipeline(settings.model, settings.revision, device, self.precision)
        known = styles_for(settings.model)
        self.styles = {name: known[name] for name in settings.styles or known}
        self._check_prompts()

    def __call__(self, row: dict[str, Any], number: int, seed: int) -> tuple[bytes, dict[str, Any]]:
        """Make a variant.

        Args:
            row: With a clip's bytes in `video`.
            number: Which of the clip's variants; told apart by its seed.
            seed: Draws style and guidance.

        Returns:
            An MP4 without sound, and what made it.

        Raises:
            MediaError: If the clip cannot be read.
        """
        settings, rng = self.settings, np.random.default_rng(seed)
        name = str(rng.choice([*self.styles]))
        factor = 1 + settings.guidance_spread * rng.uniform(-1, 1)
        guidance = max(1.0, round(factor * self.styles[name].guidance_scale, 3))
        source = row["video"]["bytes"]
        clip = media.read_video(source, max_side=settings.size)
        edited = self.edit(clip.frames, self.styles[name], guidance)
        info = media.probe(source)
        stream = media.VideoStream(
            frames=_resized(edited, info.width, info.height),
            fps=clip.fps,
            length=len(edited),
            width=info.width,
            height=info.height,
        )
        return media.encode_video(stream, clip.fps), self._details(name, guidance)

    def edit(self, frames: np.ndarray, style: Style, guidance_scale: float) -> np.ndarray:
        """Edit frames of any number and size.

        Args:
            frames: uint8 RGB (F, H, W, 3).
            style: Its words, windows and weights.
            guidance_scale: At least 1.

        Returns:
            uint8 RGB, F frames of the size that the model works at.
        """
        settings = self.settings
        width, height = self._working_size(frames.shape[2], frames.shape[1])
        sized = np.stack([*_resized(frames, width, height)])
        key = sized[(len(sized) - 1) // 2]
        windows = np.array_split(sized, -(-len(sized) // (settings.window - 1)))
        edited = []
        for window in windows:
            made = self.pipeline(
                np.concatenate([key[None], window]),
                settings.source_prompt,
                style.prompt(settings.source_prompt),
                num_inference_steps=settings.steps,
                guidance_scale=guidance_scale,
                cross_replace=style.cross_replace,
                self_replace=style.self_replace,
                reweight=style.reweight,
                key_frames=("first", 0) if settings.own_frame else ("first",),
                key_frame_min_channels=settings.key_frame_min_channels,
            ).frames[1:]
            edited.append(np.round(made * 255).astype(np.uint8))
        return np.concatenate(edited)

    def _check_prompts(self) -> None:
        from augment.fatezero_words import plan_words

        source = self.settings.source_prompt
        for name, style in self.styles.items():
            try:
                plan_words(self.pipeline.tokenizer, source, style.prompt(source), style.reweight)
            except ValueError as error:
                raise UsageError(f"augment.video.source_prompt: with style {name}: {error}") from error

    def _working_size(self, width: int, height: int) -> tuple[int, int]:
        """The size to edit at: in proportion, sides multiples of what the model takes."""
        unit = self.pipeline.vae_scale_factor * 2 ** (len(self.pipeline.unet.config.block_out_channels) - 1)
        scale = self.settings.size / max(width, height)
        sides = (max(1, round(side * scale / unit)) * unit for side in (width, height))
        return next(sides), next(sides)

    def _details(self, name: str, guidance: float) -> dict[str, Any]:
        settings, style = self.settings, self.styles[name]
        unused = ("variants", "styles", "guidance_spread")
        return {
            "method": "fatezero",
            **{key: value for key, value in asdict(settings).items() if key not in unused},
            "style": name,
            "prompt": style.prompt(settings.source_prompt),
            **{key: value for key, value in asdict(style).items() if key != "words"},
            "guidance_scale": guidance,
            "precision": self.precision,
        }


def load_pipeline(model: str, revision: str | None, device: str, precision: str) -> FateZeroPipeline:
    """Load a checkpoint.

    Raises:
        UsageError: If it is not there or is not Stable Diffusion 1.x.
    """
    from augment.fatezero import FateZeroPipeline

    path = str(CHECKPOINT) if model == "embedded" else model
    try:
        pipeline = FateZeroPipeline.from_pretrained(path, revision=revision, use_safetensors=True)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UsageError(
            f"augment.video.model: {model!r} cannot be loaded as Stable Diffusion 1.x ({reason});"
            " take embedded, a directory or a Hub id of such a checkpoint"
        ) from error
    pipeline.set_progress_bar_config(disable=True)
    for part in (pipeline.vae, pipeline.text_encoder, pipeline.unet):
        getattr(part, _CASTS[precision])()
    return pipeline.to(device)


def _precision(precision: str, device: str) -> str:
    if precision != "auto":
        return precision
    return "float16" if device.startswith("cuda") else "float32"


def _resized(frames: np.ndarray, width: int, height: int) -> Iterator[np.ndarray]:
    """Each frame at a size."""
    from PIL import Image

    for frame in frames:
        if frame.shape[:2] == (height, width):
            yield frame
        else:
            yield np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.LANCZOS))

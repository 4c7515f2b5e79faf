"""What an editor of video is to the operator that calls it, and what all editors share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from augment.video.methods import METHODS
from augment.video.settings import VideoSettings
from pipelines.errors import RowError
from pipelines.pretrained import Pretrained

if TYPE_CHECKING:
    from augment.video.styles import Style


class Editor(Protocol):
    """Edits frames into a style; made of the settings, a device and a precision."""

    unit: int
    """Sides of the frames are multiples of this."""
    precision: str
    """Of the weights."""

    def check(self, style: Style, source_prompt: str) -> None:
        """Raise `ValueError` if the words of a style are more than the model takes."""

    def edit(
        self,
        frames: np.ndarray,
        source_prompt: str,
        style: Style,
        rng: np.random.Generator,
        strength: float = 1.0,
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Edit frames.

        Args:
            frames: uint8 RGB (F, H, W, 3), any F, sides multiples of `unit`.
            source_prompt: What they show.
            style: Its words, and for FateZero its windows and weights.
            rng: Draws what the editor leaves to chance.
            strength: Factor on how far the edit goes, in (0, 1].

        Returns:
            uint8 RGB of the same shape, and what was drawn, or is other than the settings and the style say.
        """


def load(
    settings: VideoSettings,
    pipeline: Callable[..., Any],
    device: str,
    precision: str,
    *,
    exact: tuple[str, ...] = (),
    **parts: Any,
) -> Any:
    """A diffusers pipeline with the settings' checkpoint.

    Args:
        settings: Name the model.
        pipeline: Its `from_pretrained`.
        device: Where to.
        precision: float32, bfloat16 or float16; layers that a model wants in float32 stay so.
        exact: Components that are in float32 whatever the precision.
        parts: Components that the checkpoint lacks.

    Raises:
        UsageError: If the checkpoint is not there, or is of another kind.
    """
    import torch

    dtypes = {"default": getattr(torch, precision)} | dict.fromkeys(exact, torch.float32)
    source = Pretrained(
        setting="augment.video.model",
        name=settings.model,
        purpose=f"for {settings.method}",
        advice=f"take a directory or a Hub id of a checkpoint such as {METHODS[settings.method].checkpoint}",
    )
    with source.explained():
        loaded = pipeline(
            settings.model, revision=settings.revision, use_safetensors=True, dtype=dtypes, **parts
        )
    loaded.set_progress_bar_config(disable=True)
    loaded.to(device)
    return loaded


def check_prompts(tokenizer: Any, *prompts: str) -> None:
    """Raise `ValueError` if a prompt has more tokens than the text encoder takes, which would cut it."""
    most = tokenizer.model_max_length
    for prompt in prompts:
        found = len(tokenizer(prompt, verbose=False).input_ids)
        if found > most:
            raise ValueError(
                f"prompt: {prompt!r} has {found} tokens, the text encoder takes {most}; shorten it"
            )


def check_flags(flags: Sequence[bool] | None, settings: VideoSettings) -> None:
    """Raise `RowError` if a checkpoint's safety checker flagged a frame, which it then made black."""
    if any(flags or ()):
        raise RowError(
            f"video: the safety checker of {settings.model!r} blacked out frames of the edit; leave the"
            " clip out, or take another style or a lower augment.video.video_to_video.strength"
        )


def unet_unit(pipeline: Any) -> int:
    """What the sides of frames are multiples of, so that each level of a UNet halves its latents evenly."""
    return pipeline.vae_scale_factor * 2 ** (len(pipeline.unet.config.block_out_channels) - 1)


def windows(frames: np.ndarray, most: int) -> list[np.ndarray]:
    """Frames in windows of nearly one size, of at most `most` frames."""
    return np.array_split(frames, -(-len(frames) // most))


def as_bytes(frames: np.ndarray) -> np.ndarray:
    """Frames in [0, 1] as uint8."""
    pixels: np.ndarray = np.round(np.clip(frames, 0, 1) * 255)
    return pixels.astype(np.uint8)

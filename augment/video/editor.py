"""What a video editor must do (`Editor`), how its checkpoint is loaded (`load`), and what editors share."""

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
    """Edits frames into a style; constructed from the settings, a device and a precision."""

    size_multiple: int
    """The sides of the frames must be multiples of this."""
    precision: str
    """Precision of the weights."""

    def check(self, style: Style, source_prompt: str) -> None:
        """Raise `ValueError` if a style's prompt has more tokens than the model takes."""

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
            frames: uint8 RGB (F, H, W, 3), any F, sides multiples of `size_multiple`.
            source_prompt: What they show.
            style: The prompt's words, and for FateZero the attention's parameters.
            rng: Draws everything that is random.
            strength: Factor on the strength of the edit, in (0, 1].

        Returns:
            uint8 RGB of the same shape, and whatever was drawn or differs from the settings and the style.
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
    """Load a diffusers pipeline with the checkpoint of the settings.

    Args:
        settings: Name the checkpoint.
        pipeline: The pipeline's `from_pretrained`.
        device: A torch device.
        precision: float32, bfloat16 or float16; layers that a model keeps in float32 stay so.
        exact: Components that are in float32 whatever the precision.
        parts: Components that the checkpoint lacks.

    Raises:
        UsageError: If the checkpoint is missing or of another kind.
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
    return loaded.to(device)


def check_prompts(tokenizer: Any, *prompts: str) -> None:
    """Raise `ValueError` if a prompt has more tokens than the text encoder takes, which would truncate it."""
    most = tokenizer.model_max_length
    for prompt in prompts:
        count = len(tokenizer(prompt, verbose=False).input_ids)
        if count > most:
            raise ValueError(
                f"prompt: {prompt!r} has {count} tokens, the text encoder takes {most}; shorten it"
            )


def check_flags(flags: Sequence[bool] | None, settings: VideoSettings) -> None:
    """Raise `RowError` if the checkpoint's safety checker flagged a frame, which it replaces by black."""
    if any(flags or ()):
        raise RowError(
            f"video: the safety checker of {settings.model!r} blacked out frames of the edit; leave the"
            " clip out, or take another style or a lower augment.video.video_to_video.strength"
        )


def unet_size_multiple(pipeline: Any) -> int:
    """Frame sides must be multiples of this, so that each level of the UNet halves its latents evenly."""
    return pipeline.vae_scale_factor * 2 ** (len(pipeline.unet.config.block_out_channels) - 1)


def windows(frames: np.ndarray, most: int) -> list[np.ndarray]:
    """Split frames into windows of nearly equal length, of at most `most` frames."""
    return np.array_split(frames, -(-len(frames) // most))


def as_bytes(frames: np.ndarray) -> np.ndarray:
    """Convert frames in [0, 1] to uint8."""
    pixels: np.ndarray = np.round(np.clip(frames, 0, 1) * 255)
    return pixels.astype(np.uint8)

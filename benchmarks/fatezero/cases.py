"""Networks, clips and arguments of the benchmark of video edits.

Networks compute in float32, on a GPU without TF32, so that the methods of editing can be compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from augment.checkpoints import STABLE_DIFFUSION
from augment.video import editor
from augment.video.settings import VideoSettings
from augment.video.styles import PUBLISHED
from pipelines.errors import UsageError

if TYPE_CHECKING:
    from augment.fatezero import FateZeroPipeline

SOURCE_PROMPT = "a person talking"
STYLE = PUBLISHED["watercolor"]
FIRST_CLIPS = 10
"""Clips after which memory must no longer grow."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """Sizes of one edit."""

    steps: int
    """DDIM steps, of the inversion and of the edit."""
    frames: int
    size: int
    """Pixels of a frame's side."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Networks and device of a run."""

    model: str | None
    """A directory or Hub id of Stable Diffusion 1.x, `embedded`, or None for random weights."""
    device: str
    threads: int
    """CPU threads."""


def load(setting: Setting) -> FateZeroPipeline:
    """Load the networks of a run.

    Raises:
        UsageError: If `model` is not a Stable Diffusion 1.x.
    """
    import torch

    from augment.fatezero import FateZeroPipeline

    torch.set_num_threads(setting.threads)
    torch.backends.cudnn.allow_tf32 = False
    if setting.model is None:
        return seeded().to(setting.device)
    path = str(STABLE_DIFFUSION) if setting.model == "embedded" else setting.model
    try:
        named = VideoSettings(model=path, method="fatezero")
        return editor.load(named, FateZeroPipeline.from_pretrained, setting.device, "float32")
    except UsageError as error:
        raise UsageError("--model" + str(error).removeprefix("augment.video.model")) from error


def seeded() -> FateZeroPipeline:
    """A small Stable Diffusion 1.x with random weights from a fixed seed.

    Its UNet has the same levels as the original, 8 heads everywhere, and 2.5 million parameters; a pixel
    of a latent is 8 x 8 pixels, too.
    """
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel

    from augment.fatezero import FateZeroPipeline
    from augment.training.diffusion import model as small_diffusion

    torch.manual_seed(0)
    tokenizer = small_diffusion.build_tokenizer()
    unet: Any = UNet2DConditionModel(
        sample_size=32, block_out_channels=(32, 64, 64, 80), layers_per_block=1, norm_num_groups=8,
        cross_attention_dim=64, attention_head_dim=8,
    )  # fmt: skip
    vae: Any = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 8, 16, 16), norm_num_groups=8, sample_size=256,
    )  # fmt: skip
    pipeline: Any = FateZeroPipeline(
        vae=vae.eval(),
        text_encoder=small_diffusion.build_text_encoder(tokenizer).eval(),
        tokenizer=tokenizer,
        unet=unet.eval(),
        scheduler=small_diffusion.build_scheduler(),
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def arguments(pipeline: FateZeroPipeline, case: Case) -> dict[str, Any]:
    """The arguments of both methods: the published watercolor edit."""
    return {
        "source_prompt": SOURCE_PROMPT,
        "prompt": STYLE.prompt(SOURCE_PROMPT),
        "num_inference_steps": case.steps,
        "guidance_scale": STYLE.guidance_scale,
        "cross_replace": STYLE.cross_replace,
        "self_replace": STYLE.self_replace,
        "reweight": STYLE.reweight,
        "key_frames": ("mid",),
        # 640 for Stable Diffusion 1.x, as in FateZero.
        "key_frame_min_channels": pipeline.unet.config.block_out_channels[1],
    }


def clip(pipeline: FateZeroPipeline, case: Case, seed: int = 0) -> np.ndarray:
    """Noise, uint8 RGB (F, H, W, 3).

    Raises:
        UsageError: If the model does not take frames of that size.
    """
    unit = editor.unet_unit(pipeline)
    if case.size % unit:
        raise UsageError(f"--sizes: got {case.size}, this model takes multiples of {unit}")
    shape = (case.frames, case.size, case.size, 3)
    return np.random.default_rng(seed).integers(0, 256, size=shape, dtype=np.uint8)

"""Edits to measure: networks, clips and arguments, and the functions that measure time and memory.

`benchmarks.fatezero.speed` calls each of these functions in a process of its own. Networks compute in
float32, on a GPU without TF32, so that the methods of editing can be compared.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from augment.checkpoints import STABLE_DIFFUSION
from augment.video import editor
from augment.video.settings import VideoSettings
from augment.video.styles import PUBLISHED
from benchmarks.measurement import free_bytes, peak_bytes, reset_peak, used_bytes, watched
from pipelines.errors import UsageError

if TYPE_CHECKING:
    from augment.fatezero import FateZeroPipeline

SOURCE_PROMPT = "a person talking"
STYLE = PUBLISHED["watercolor"]
FIRST_CLIPS = 10
"""Clips after which memory must no longer grow."""
Method = Literal["ours", "reference"]
STYLES = (STYLE.words, "sepia painting of", "night scene of")
SPARE = 0.8
"""Share of the free memory that maps may take; the rest is for the passes."""
SMALL = 64
"""Pixels of a small frame's side, if the model takes it."""
WARM_UP = 2
"""Frames of the one-step edit before a measurement, which does not count."""
BARE_PASSES = 3
"""Bare passes to time per batch size."""


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
    unit = editor.unet_size_multiple(pipeline)
    if case.size % unit:
        raise UsageError(f"--sizes: got {case.size}, this model takes multiples of {unit}")
    shape = (case.frames, case.size, case.size, 3)
    return np.random.default_rng(seed).integers(0, 256, size=shape, dtype=np.uint8)


def edit(setting: Setting, case: Case, method: Method) -> dict[str, Any]:
    """Measure one edit.

    Args:
        setting: Device and networks.
        case: The edit.
        method: How to edit.

    Returns:
        `seconds`; `bytes`, the peak above the loaded networks, at least 1; `frames`, the edited clip;
        `unet_s`, seconds inside the UNet's passes; `passes`, their number; `parameters` of the UNet.
        For ours also `bare_s`, seconds of the same passes alone in the unmodified UNet. For the
        reference also `map_bytes`, or only `left_out`, a reason, if its maps do not fit.

    Raises:
        UsageError: If the model cannot be loaded or does not take such clips.
    """
    from benchmarks.fatezero.reference import ReferenceFateZero

    pipeline = load(setting)
    call, frames = arguments(pipeline, case), clip(pipeline, case)
    reference = ReferenceFateZero(pipeline)
    make = reference if method == "reference" else lambda *frames, **call: pipeline(*frames, **call).frames
    make(frames[:WARM_UP], **call | {"num_inference_steps": 1})  # so that start-up is not measured
    maps, free = reference.stored_bytes * case.frames * case.steps // WARM_UP, free_bytes(setting.device)
    if maps > SPARE * free:
        return {"left_out": f"its maps take {maps / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are free"}
    before = reset_peak(setting.device)
    with watched(pipeline.unet, setting.device) as passes:
        started = time.perf_counter()
        made = make(frames, **call)
        seconds = time.perf_counter() - started
    figures = {"seconds": seconds, "bytes": max(1, peak_bytes(setting.device) - before), "frames": made}
    figures |= {"unet_s": passes.seconds, "passes": len(passes.rows)}
    figures |= {"parameters": pipeline.unet.num_parameters()}
    if method == "reference":
        return figures | {"map_bytes": reference.stored_bytes}
    return figures | {"bare_s": bare(pipeline, case, passes.rows, setting.device)}


def styles(setting: Setting, case: Case) -> dict[str, Any]:
    """Measure edits of one clip into one style, and into all of `STYLES`.

    Returns:
        `one` and `many`, each with the number of `styles`, `seconds`, `passes` of the UNet, and
        `inversion_passes`, those of the inversion.
    """
    pipeline = load(setting)
    call, frames = arguments(pipeline, case) | {"reweight": {}}, clip(pipeline, case)
    pipeline(frames[:WARM_UP], **call | {"num_inference_steps": 1})
    figures = {}
    for name, count in (("one", 1), ("many", len(STYLES))):
        prompts = [f"{words} {SOURCE_PROMPT}" for words in STYLES[:count]]
        with watched(pipeline.unet, setting.device) as passes:
            started = time.perf_counter()
            pipeline(frames, **call | {"prompt": prompts})
            seconds = time.perf_counter() - started
        figures[name] = {
            "styles": count,
            "seconds": seconds,
            "passes": len(passes.rows),
            "inversion_passes": passes.rows.count(case.frames),
        }
    return figures


def clips(setting: Setting, count: int) -> dict[str, int]:
    """Edit small clips, one after another.

    Returns:
        `frames` and `size` of a clip; `bytes_first` and `bytes_last`, the memory in use after
        `FIRST_CLIPS` clips, and after the last.
    """
    pipeline = load(setting)
    case, held = Case(steps=2, frames=2, size=max(SMALL, editor.unet_size_multiple(pipeline))), {}
    for number in range(1, count + 1):
        pipeline(clip(pipeline, case, seed=number), **arguments(pipeline, case))
        if number in (FIRST_CLIPS, count):
            held[number] = used_bytes(setting.device)
    sizes = {"frames": case.frames, "size": case.size}
    return sizes | {"bytes_first": held[FIRST_CLIPS], "bytes_last": held[count]}


def bare(pipeline: FateZeroPipeline, case: Case, rows: list[int], device: str) -> float:
    """Seconds of passes with these batch sizes in the unmodified UNet."""
    import torch

    config, seconds = pipeline.unet.config, 0.0
    side = case.size // pipeline.vae_scale_factor
    tokens = pipeline.tokenizer.model_max_length
    for batch, count in Counter(rows).items():
        latents = torch.randn(batch, config.in_channels, side, side, device=device)
        words = torch.randn(batch, tokens, config.cross_attention_dim, device=device)
        with torch.no_grad(), watched(pipeline.unet, device) as passes:
            times = []
            for _ in range(min(count, BARE_PASSES)):
                passes.seconds = 0.0
                pipeline.unet(latents, 500, encoder_hidden_states=words)
                times.append(passes.seconds)
        seconds += count * median(times)
    return seconds

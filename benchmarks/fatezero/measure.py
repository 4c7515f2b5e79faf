"""Time and memory of edits; `benchmarks.fatezero.speed` calls each function in a process of its own."""

from __future__ import annotations

import time
from collections import Counter
from statistics import median
from typing import TYPE_CHECKING, Any, Literal

import torch

from augment.video.editor import unet_unit
from benchmarks.fatezero.cases import FIRST_CLIPS, SOURCE_PROMPT, STYLE, Case, Setting, arguments, clip, load
from benchmarks.fatezero.reference import ReferenceFateZero
from benchmarks.measurement import free_bytes, peak_bytes, reset_peak, used_bytes, watched

if TYPE_CHECKING:
    from augment.fatezero import FateZeroPipeline

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
    case, held = Case(steps=2, frames=2, size=max(SMALL, unet_unit(pipeline))), {}
    for number in range(1, count + 1):
        pipeline(clip(pipeline, case, seed=number), **arguments(pipeline, case))
        if number in (FIRST_CLIPS, count):
            held[number] = used_bytes(setting.device)
    sizes = {"frames": case.frames, "size": case.size}
    return sizes | {"bytes_first": held[FIRST_CLIPS], "bytes_last": held[count]}


@torch.no_grad()
def bare(pipeline: FateZeroPipeline, case: Case, rows: list[int], device: str) -> float:
    """Seconds of passes with these batch sizes in the unmodified UNet."""
    config, seconds = pipeline.unet.config, 0.0
    side = case.size // pipeline.vae_scale_factor
    tokens = pipeline.tokenizer.model_max_length
    for batch, count in Counter(rows).items():
        latents = torch.randn(batch, config.in_channels, side, side, device=device)
        words = torch.randn(batch, tokens, config.cross_attention_dim, device=device)
        with watched(pipeline.unet, device) as passes:
            times = []
            for _ in range(min(count, BARE_PASSES)):
                passes.seconds = 0.0
                pipeline.unet(latents, 500, encoder_hidden_states=words)
                times.append(passes.seconds)
        seconds += count * median(times)
    return seconds

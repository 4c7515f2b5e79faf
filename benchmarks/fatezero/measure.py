"""What an edit takes in time and memory, measured by a process that does nothing else.

Called in a process of its own by `benchmarks.fatezero.speed`: memory that one measurement left behind
would hide what the next one takes.
"""

from __future__ import annotations

import time
from collections import Counter
from statistics import median
from typing import TYPE_CHECKING, Any, Literal

import torch

from augment.video.editor import unet_size_multiple
from benchmarks import measurement
from benchmarks.fatezero.cases import FIRST_CLIPS, SOURCE_PROMPT, STYLE, Case, Setting, arguments, clip, load
from benchmarks.fatezero.reference import TextbookFateZero
from benchmarks.measurement import free_bytes, watched

if TYPE_CHECKING:
    from augment.fatezero import FateZeroPipeline

Way = Literal["ours", "textbook"]
STYLES = (STYLE.words, "sepia painting of", "night scene of")
SPARE = 0.8
"""Share of the free memory that maps may take; the rest is for the pass itself."""
SMALL = 64
"""Pixels of a small frame's side, where the model takes it."""
WARM_UP = 2
"""Frames of an edit in one step before a measurement."""
BARE_PASSES = 3
"""Passes of a batch size that are timed alone."""


def edit(setting: Setting, case: Case, way: Way) -> dict[str, Any]:
    """Measure one edit.

    Args:
        setting: Where, and with which networks.
        case: What is edited.
        way: How.

    Returns:
        `seconds`; `bytes`, the peak above the loaded networks, at least 1; `frames`, the edited clip;
        `unet_s`, seconds inside the UNet's passes; `passes`, how many; `parameters` of the
        UNet. Of ours also `bare_s`: what the same passes take alone, in the UNet as it was loaded. Of
        the textbook's also `map_bytes`, or nothing but `left_out`, a reason, where its maps do not fit.

    Raises:
        UsageError: If the model cannot be loaded or does not take such clips.
    """
    pipeline = load(setting)
    call, frames = arguments(pipeline, case), clip(pipeline, case)
    textbook = TextbookFateZero(pipeline)
    make = textbook if way == "textbook" else lambda *frames, **call: pipeline(*frames, **call).frames
    make(frames[:WARM_UP], **call | {"num_inference_steps": 1})  # what starts up is not measured
    maps, free = textbook.stored_bytes * case.frames * case.steps // WARM_UP, free_bytes(setting.device)
    if maps > SPARE * free:
        return {"left_out": f"its maps take {maps / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are free"}
    before = measurement.start(setting.device)
    with watched(pipeline.unet, setting.device) as passes:
        started = time.perf_counter()
        made = make(frames, **call)
        seconds = time.perf_counter() - started
    told = {"seconds": seconds, "bytes": max(1, measurement.reached(setting.device) - before), "frames": made}
    told |= {"unet_s": passes.seconds, "passes": len(passes.rows)}
    told |= {"parameters": pipeline.unet.num_parameters()}
    if way == "textbook":
        return told | {"map_bytes": textbook.stored_bytes}
    return told | {"bare_s": bare(pipeline, case, passes.rows, setting.device)}


def styles(setting: Setting, case: Case) -> dict[str, Any]:
    """Measure edits of one clip into one style, and into all of `STYLES`.

    Returns:
        `one` and `many`, each with the number of `styles`, `seconds`, `passes` of the UNet, and how
        many `inversion_passes` of them: those with the source alone.
    """
    pipeline = load(setting)
    call, frames = arguments(pipeline, case) | {"reweight": {}}, clip(pipeline, case)
    pipeline(frames[:WARM_UP], **call | {"num_inference_steps": 1})
    told = {}
    for name, count in (("one", 1), ("many", len(STYLES))):
        prompts = [f"{words} {SOURCE_PROMPT}" for words in STYLES[:count]]
        with watched(pipeline.unet, setting.device) as passes:
            started = time.perf_counter()
            pipeline(frames, **call | {"prompt": prompts})
            seconds = time.perf_counter() - started
        told[name] = {
            "styles": count,
            "seconds": seconds,
            "passes": len(passes.rows),
            "inversion_passes": passes.rows.count(case.frames),
        }
    return told


def clips(setting: Setting, count: int) -> dict[str, int]:
    """Edit small clips, one after another.

    Returns:
        `frames` and `size` of a clip; `bytes_first` and `bytes_last`: what the process holds after
        `FIRST_CLIPS` clips, and after the last.
    """
    pipeline = load(setting)
    case, held = Case(steps=2, frames=2, size=max(SMALL, unet_size_multiple(pipeline))), {}
    for number in range(1, count + 1):
        pipeline(clip(pipeline, case, seed=number), **arguments(pipeline, case))
        if number in (FIRST_CLIPS, count):
            held[number] = measurement.held(setting.device)
    sizes = {"frames": case.frames, "size": case.size}
    return sizes | {"bytes_first": held[FIRST_CLIPS], "bytes_last": held[count]}


@torch.no_grad()
def bare(pipeline: FateZeroPipeline, case: Case, rows: list[int], device: str) -> float:
    """Seconds that passes of such batches take in the UNet alone, as it was loaded."""
    config, seconds = pipeline.unet.config, 0.0
    side = case.size // pipeline.vae_scale_factor
    tokens = pipeline.tokenizer.model_max_length
    for batch, count in Counter(rows).items():
        latents = torch.randn(batch, config.in_channels, side, side, device=device)
        words = torch.randn(batch, tokens, config.cross_attention_dim, device=device)
        with watched(pipeline.unet, device) as passes:
            found = []
            for _ in range(min(count, BARE_PASSES)):
                passes.seconds = 0.0
                pipeline.unet(latents, 500, encoder_hidden_states=words)
                found.append(passes.seconds)
        seconds += count * median(found)
    return seconds

"""Stored maps make the frames that recomputed ones make."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from augment.fatezero import FateZeroPipeline
from benchmarks.fatezero.reference import ReferenceFateZero, merged_columns
from tests import tiny_diffusion

SOURCE, TARGET = "a person talking", "watercolor painting of a person talking"
CALL: dict[str, Any] = {
    "source_prompt": SOURCE,
    "prompt": TARGET,
    "num_inference_steps": 3,
    "guidance_scale": 7.5,
    "cross_replace": 0.8,
    "self_replace": 0.8,
    "reweight": {},
    "key_frames": ("mid",),
    "key_frame_min_channels": 16,
}


def load(folder: Path, *, double: bool) -> FateZeroPipeline:
    made: Any = FateZeroPipeline.from_pretrained(folder)
    made.set_progress_bar_config(disable=True)
    if double:  # rounding, which an edit enlarges, is out of the way
        for part in (made.vae, made.text_encoder, made.unet):
            part.double()
    return made


def both(
    pipeline: FateZeroPipeline, frames: np.ndarray, call: dict[str, Any]
) -> tuple[np.ndarray, np.ndarray]:
    return pipeline(frames, **call).frames, ReferenceFateZero(pipeline)(frames, **call)


class Reference(NamedTuple):
    """The reference's networks in double precision, a part of its clip, and how it is edited."""

    pipeline: FateZeroPipeline
    frames: np.ndarray
    call: dict[str, Any]
    edited: np.ndarray


@pytest.fixture(scope="module")
def reference(shared: Path) -> Reference:
    folder = shared / "golden" / "fatezero"
    call = json.loads((folder / "watercolor.json").read_text()) | {"num_inference_steps": 3, "reweight": {}}
    frames = np.load(folder / "watercolor.npz")["frames"][:3, 32:96, 32:96]
    pipeline = load(folder / "checkpoint", double=True)
    return Reference(pipeline, frames, call, pipeline(frames, **call).frames)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"reweight": {"watercolor": 10}},
        {"blend_words": ["woman"], "blend_threshold": 0.9},
        {"blend_words": ["a", "talking"], "blend_threshold": 0.6},
        {"key_frames": ["first", "last", -1]},
        {"cross_replace": 0.3, "self_replace": 0.5},
        {"guidance_scale": 1.0},
        {"prompt": "talking cat"},
    ],
    ids=lambda changes: ",".join(changes) or "plain",
)
def test_both_ways_make_the_same_frames(reference: Reference, changes: dict[str, Any]) -> None:
    ours, textbook = both(reference.pipeline, reference.frames, reference.call | changes)
    np.testing.assert_allclose(textbook, ours, atol=1e-5)
    assert (np.abs(ours - reference.edited).max() > 1e-3) == bool(changes)


def test_and_in_single_precision_to_a_thousandth(shared: Path) -> None:
    folder = shared / "golden" / "fatezero"
    call = json.loads((folder / "watercolor.json").read_text())
    frames = np.load(folder / "watercolor.npz")["frames"][:4]
    ours, textbook = both(load(folder / "checkpoint", double=False), frames, call)
    np.testing.assert_allclose(textbook, ours, atol=1e-3)


def test_frames_need_not_be_square(tmp_path: Path) -> None:
    pipeline = load(tiny_diffusion.stable_diffusion(tmp_path), double=True)
    frames = np.random.default_rng(0).integers(0, 256, size=(3, 32, 40, 3), dtype=np.uint8)
    call = CALL | {"blend_words": ["person"], "blend_threshold": 0.97, "cross_replace": 0.5}
    ours, textbook = both(pipeline, frames, call)
    np.testing.assert_allclose(textbook, ours, atol=1e-5)


def test_all_maps_of_the_inversion_are_stored_and_the_unet_is_left_as_it_was(tmp_path: Path) -> None:
    pipeline = load(tiny_diffusion.stable_diffusion(tmp_path), double=False)
    processors = pipeline.unet.attn_processors
    textbook = ReferenceFateZero(pipeline)
    frames = np.zeros((3, 32, 40, 3), dtype=np.uint8)
    textbook(frames, **CALL)
    # Latents of 8 x 10 and 4 x 5, 16 tokens; one layer down and two up a level, one in the middle at 4 x 5.
    fine, coarse = 3 * 80 * (80 + 16), 4 * 20 * (20 + 16)
    heads, float32 = 2, 4
    assert textbook.stored_bytes == 3 * len(frames) * heads * float32 * (fine + coarse)
    assert pipeline.unet.attn_processors == processors


def test_levels_finer_than_32_x_32_are_the_edits_own(tmp_path: Path) -> None:
    pipeline = load(tiny_diffusion.stable_diffusion(tmp_path), double=True)
    frames = np.random.default_rng(0).integers(0, 256, size=(2, 136, 136, 3), dtype=np.uint8)
    textbook = ReferenceFateZero(pipeline)
    call = CALL | {"num_inference_steps": 1, "cross_replace": 1.0, "self_replace": 1.0}
    np.testing.assert_allclose(textbook(frames, **call), pipeline(frames, **call).frames, atol=1e-5)
    assert textbook.stored_bytes == len(frames) * 2 * 8 * 4 * 17**2 * (17**2 + 16)


def test_columns_are_the_sources_where_words_align() -> None:
    columns = merged_columns(
        tiny_diffusion.tokenizer(), SOURCE, TARGET, {"watercolor": 3, "person": 2}, torch.device("cpu")
    )
    # <start> watercolor painting of a person talking <end>, then padding that follows its own place.
    assert columns.source_of.tolist() == [0, -1, -1, -1, 1, 2, 3, 4, *range(8, 16)]
    source, own = torch.full((1, 2, 16), 5.0), torch.full((1, 2, 16), 7.0)
    assert columns.merge(source, own)[0, 1].tolist() == [5, 21, 7, 7, 5, 10, 5, 5, *[5] * 8]

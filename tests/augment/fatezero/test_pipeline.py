"""FateZero: against reference outputs, and by what must hold on a tiny checkpoint."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from augment.fatezero import FateZeroPipeline
from augment.fatezero.attention import ClipGroupNorm, attend_both, key_table
from augment.fatezero.prompts import align, plan_words, word_positions
from tests import tiny_diffusion

SOURCE, TARGET = "a person talking", "watercolor painting of a person talking"


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> FateZeroPipeline:
    made = FateZeroPipeline.from_pretrained(tiny_diffusion.stable_diffusion(tmp_path_factory.mktemp("sd")))
    made.set_progress_bar_config(disable=True)
    return made


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, size=(3, 32, 40, 3), dtype=np.uint8)


def edit(pipeline: FateZeroPipeline, frames: np.ndarray, prompt: Any = TARGET, **changes: Any) -> np.ndarray:
    arguments = {"num_inference_steps": 4, "key_frame_min_channels": 16} | changes
    return pipeline(frames, SOURCE, prompt, **arguments).frames


def in_double(pipeline: FateZeroPipeline) -> FateZeroPipeline:
    """A copy that computes in double precision, where ways of computing the same agree."""
    parts = {name: copy.deepcopy(part) for name, part in pipeline.components.items()}
    made = FateZeroPipeline(**parts)
    for part in (made.unet, made.vae, made.text_encoder):
        part.double()
    made.set_progress_bar_config(disable=True)
    return made


@pytest.mark.parametrize("case", ["identity", "watercolor"])
def test_edits_are_those_of_the_reference(shared: Path, case: str) -> None:
    folder = shared / "golden" / "fatezero"
    call = json.loads((folder / f"{case}.json").read_text())
    expected = np.load(folder / f"{case}.npz")
    made = FateZeroPipeline.from_pretrained(folder / "checkpoint")
    made.set_progress_bar_config(disable=True)
    output = made(expected["frames"], **call)
    assert np.abs(output.frames - expected["edited"]).mean() < 5e-4
    assert np.abs(output.inverted_latents.numpy() - expected["inverted_latents"]).max() < 1e-3


@pytest.mark.parametrize("width", [8, 160])
def test_two_values_under_one_softmax_are_two_attentions(width: int) -> None:
    query, key, one, other = torch.randn(4, 1, 3, 2, 12, width, generator=torch.Generator().manual_seed(0))
    for mixed, value in zip(attend_both(query, key, one, other), (one, other), strict=True):
        expected = torch.nn.functional.scaled_dot_product_attention(query, key, value)
        torch.testing.assert_close(mixed, expected)


def test_frames_keep_number_and_size(pipeline: FateZeroPipeline, frames: np.ndarray) -> None:
    for count in (2, 3):
        made = edit(pipeline, frames[:count])
        assert made.shape == (count, 32, 40, 3)
        assert made.dtype == np.float32
        assert made.min() >= 0
        assert made.max() <= 1


def test_a_list_of_prompts_is_each_prompt_alone(pipeline: FateZeroPipeline, frames: np.ndarray) -> None:
    prompts = [TARGET, "sepia night of a person talking"]
    together = edit(pipeline, frames, prompts)
    alone = np.stack([edit(pipeline, frames, prompt) for prompt in prompts])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert np.abs(together[0] - together[1]).max() > 1e-3


def test_source_rows_run_only_inside_the_windows(pipeline: FateZeroPipeline, frames: np.ndarray) -> None:
    rows = []
    hook = pipeline.unet.register_forward_pre_hook(
        lambda unet, inputs: rows.append(len(inputs[0]) // len(frames))
    )
    try:
        edit(pipeline, frames, cross_replace=0.5, self_replace=0.25)
        edit(pipeline, frames, cross_replace=0, self_replace=0, guidance_scale=1)
    finally:
        hook.remove()
    # Each call: four steps of inversion, then of the edit; int(0.5 * 5) steps have a window.
    assert rows == [1, 1, 1, 1, 3, 3, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1]


def test_a_mask_that_is_nowhere_or_everywhere_is_no_mask(
    pipeline: FateZeroPipeline, frames: np.ndarray
) -> None:
    pipeline = in_double(pipeline)
    whole = {"cross_replace": 0.5, "self_replace": 1.0}
    blended = {"blend_words": ["person"], **whole}
    borrowed, own = (
        edit(pipeline, frames, **whole),
        edit(pipeline, frames, cross_replace=0.5, self_replace=0.0),
    )
    nowhere = edit(pipeline, frames, **blended, blend_threshold=1.0)
    everywhere = edit(pipeline, frames, **blended, blend_threshold=-1.0)
    between = edit(pipeline, frames, **blended, blend_threshold=0.97)
    np.testing.assert_allclose(nowhere, borrowed, atol=1e-6)
    np.testing.assert_allclose(everywhere, own, atol=1e-6)
    assert min(np.abs(between - borrowed).max(), np.abs(between - own).max()) > 1e-6


def test_the_unet_is_left_as_it_was(pipeline: FateZeroPipeline, frames: np.ndarray) -> None:
    before = {name: type(module) for name, module in pipeline.unet.named_modules()}
    processors = pipeline.unet.attn_processors
    edit(pipeline, frames)

    def stop(*_: Any) -> None:
        raise RuntimeError("stopped")

    hook = pipeline.unet.conv_out.register_forward_pre_hook(stop)
    with pytest.raises(RuntimeError, match="stopped"):
        edit(pipeline, frames)
    hook.remove()
    assert {name: type(module) for name, module in pipeline.unet.named_modules()} == before
    assert pipeline.unet.attn_processors == processors


def test_bad_calls_say_what_to_do(pipeline: FateZeroPipeline, frames: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"has 18 tokens with start and end, the text encoder takes 16"):
        edit(pipeline, frames, "zzzzzzzzzzzzzzzz")
    with pytest.raises(ValueError, match="word 'hat' is not in the prompt 'a person talking'"):
        edit(pipeline, frames, blend_words=["hat"])
    with pytest.raises(ValueError, match="word 'sepia' is not in the prompt 'watercolor"):
        edit(pipeline, frames, reweight={"sepia": 2})
    with pytest.raises(ValueError, match="found 30 x 40 pixels, wanted multiples of 4"):
        edit(pipeline, frames[:, :30])
    with pytest.raises(ValueError, match=r"frames: found 1, wanted a clip of 2 or more; edit a single image"):
        edit(pipeline, frames[:1])
    with pytest.raises(ValueError, match=r"found float64 \(3, 32, 40, 3\), wanted uint8"):
        edit(pipeline, frames / 255)
    with pytest.raises(ValueError, match="key_frames: 'middle' is unknown"):
        edit(pipeline, frames, key_frames=("middle",))


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"prediction_type": "v_prediction"}, "predicts 'v_prediction'"),
        ({"addition_embed_type": "text"}, "SDXL"),
    ],
)
def test_other_checkpoints_are_refused(tmp_path: Path, changes: dict[str, Any], found: str) -> None:
    directory = tiny_diffusion.stable_diffusion(tmp_path, **changes)
    with pytest.raises(ValueError, match=f"not Stable Diffusion 1.x: found .*{found}"):
        FateZeroPipeline.from_pretrained(directory)


def test_tokens_align() -> None:
    assert align([1, 5, 6, 2], [1, 5, 6, 2]) == [0, 1, 2, 3]
    assert align([1, 5, 6, 2], [1, 9, 8, 5, 6, 2]) == [0, -1, -1, 1, 2, 3]
    assert align([1, 5, 7, 6, 2], [1, 5, 6, 2]) == [0, 1, 3, 4]
    assert align([1, 5, 2], [1, 6, 2]) == [0, -1, 2]


def test_moving_values_is_moving_columns() -> None:
    words = tiny_diffusion.tokenizer()
    plan = plan_words(words, SOURCE, TARGET, {"watercolor": 3, "person": 2})
    rng = torch.Generator().manual_seed(0)
    source, own = (torch.rand(5, 16, generator=rng) for _ in range(2))
    values = torch.rand(16, 4, generator=rng)
    # <start> watercolor painting of a person talking <end>, then padding that follows its own place.
    source_of = [0, -1, -1, -1, 1, 2, 3, 4, *range(8, 16)]
    weights = torch.tensor([1, 3, 1, 1, 1, 2, *[1] * 10])
    columns = [own[:, j] if s < 0 else source[:, s] for j, s in enumerate(source_of)]
    expected = (torch.stack(columns, dim=1) * weights) @ values
    torch.testing.assert_close(
        source @ (plan.from_source @ values) + own @ (plan.own[:, None] * values), expected
    )


def test_a_word_is_found_wherever_it_is() -> None:
    words = tiny_diffusion.tokenizer()
    assert word_positions(words, "happy cat of happy person", "happy") == [1, 6]
    assert word_positions(words, "happy cat of happy person", "cat") == [2, 3, 4]


def test_key_frames_are_those_named() -> None:
    assert key_table(("mid", 0, -1), 4).tolist() == [[1, 0, 0], [1, 1, 0], [1, 2, 1], [1, 3, 2]]
    assert key_table(("first", "last"), 1).tolist() == [[0, 0]]


def test_statistics_are_over_the_clip() -> None:
    torch.manual_seed(0)
    norm = torch.nn.GroupNorm(2, 6)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    states = torch.randn(2 * 3, 6, 4, 5) * 3 + 1
    # (S F, C, h, w) -> (S, F, groups, C / groups, h, w)
    grouped = states.unflatten(0, (2, 3)).unflatten(2, (2, 3))
    variance, mean = torch.var_mean(grouped, dim=(1, 3, 4, 5), correction=0, keepdim=True)
    plain = ((grouped - mean) / (variance + norm.eps).sqrt()).flatten(2, 3).flatten(0, 1)
    expected = plain * norm.weight[:, None, None] + norm.bias[:, None, None]
    torch.testing.assert_close(ClipGroupNorm(norm, 3)(states), expected, atol=1e-5, rtol=1e-5)

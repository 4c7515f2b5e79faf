"""A row's tokens: never above the budget, its text whole, its placeholders right."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from finetune.inputs.batch import Budget, Encoded, InputError
from finetune.inputs.chat_encoder import ChatEncoder
from finetune.model.loading import BaseModel
from tests import tiny
from tests.finetune.family_inputs import TEXT, clip

PLENTY = Budget(video_fps=10, max_frames=20, max_audio_s=4)
NAMES = ["qwen2_5_omni_thinker", "qwen3_omni_moe_thinker", "qwen2_5_vl", "qwen3_vl", "qwen2_audio", "llama"]


def limited(base: BaseModel, max_tokens: int | None) -> ChatEncoder:
    return base.encoder(replace(PLENTY, max_tokens=max_tokens), None)


def placeholders(encoder: ChatEncoder, encoded: Encoded) -> tuple[int, int]:
    """Of picture and sound, as the towers' inputs want them."""
    video = encoder.processor.video_processor.merge_size**2 if encoded.video_grid_thw is not None else 1
    seen = 0 if encoded.video_grid_thw is None else int(encoded.video_grid_thw.prod()) // video
    mask = encoded.feature_attention_mask
    return seen, 0 if mask is None else encoder.audio_chat.count(int(mask.sum()))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seconds", [0.9, 1.7])
def test_no_budget_is_ever_passed(bases: dict[str, BaseModel], name: str, seconds: float) -> None:
    base, row = bases[name], clip(seconds)
    whole = limited(base, None)(row)
    refused = ""
    for limit in range(len(whole.input_ids) + 1, 0, -1):
        encoder = limited(base, limit)
        try:
            encoded = encoder(row)
        except InputError as error:
            refused = str(error)
            break
        assert len(encoded.input_ids) <= limit
        assert f"The speaker says: {TEXT}\n" in base.processor.tokenizer.decode(encoded.input_ids)
        _placeholders_are_right(encoder, encoded)
        _sound_is_cut_last(whole, encoded)
    _nothing_is_left_to_take(encoder, encoded)
    assert refused.startswith(f"tiny/train/0: {limit + 1} tokens")
    assert f"finetune.max_tokens is {limit};" in refused
    with pytest.raises(InputError):
        limited(base, 1)(row)


def _placeholders_are_right(encoder: ChatEncoder, encoded: Encoded) -> None:
    for chat, wanted in zip(
        (encoder.chat.video, encoder.chat.audio), placeholders(encoder, encoded), strict=True
    ):
        if chat is not None:
            assert int((encoded.input_ids == encoder.tokenizer.id(chat.token)).sum()) == wanted
    if encoded.pixel_values_videos is not None and encoded.video_grid_thw is not None:
        assert len(encoded.pixel_values_videos) == int(encoded.video_grid_thw.prod())


def _sound_is_cut_last(whole: Encoded, encoded: Encoded) -> None:
    """Frames go first, and keep their size; sound goes when two frames are left."""
    if encoded.video_grid_thw is not None and whole.video_grid_thw is not None:
        assert torch.equal(encoded.video_grid_thw[1:], whole.video_grid_thw[1:])
        if encoded.feature_attention_mask is not None and encoded.video_grid_thw[0] > 1:
            assert whole.feature_attention_mask is not None
            assert encoded.feature_attention_mask.sum() == whole.feature_attention_mask.sum()


def _nothing_is_left_to_take(encoder: ChatEncoder, encoded: Encoded) -> None:
    if encoded.video_grid_thw is not None:
        assert encoded.video_grid_thw[0] == 1
    if encoded.feature_attention_mask is not None:
        least = 4_000 // encoder.processor.feature_extractor.hop_length  # mel frames of a quarter of a second
        count = encoder.audio_chat.count
        assert count(int(encoded.feature_attention_mask.sum())) == count(least)


def test_a_budget_that_is_not_reached_changes_nothing(bases: dict[str, BaseModel]) -> None:
    base, row = bases["qwen2_5_omni_thinker"], clip(0.9)
    free = limited(base, None)(row)
    held = limited(base, len(free.input_ids))(row)
    for name, value in vars(free).items():
        assert value is None or torch.equal(value, getattr(held, name)), name


def test_frames_go_evenly(bases: dict[str, BaseModel]) -> None:
    """Half of them are half the rate, over the whole clip: places in time lie twice as far apart."""
    base = bases["qwen2_5_omni_thinker"]
    whole = limited(base, None)(clip(1.6))
    half = limited(base, len(whole.input_ids) - 4 * 4)(clip(1.6))
    assert whole.video_grid_thw is not None
    assert half.video_grid_thw is not None
    assert (int(whole.video_grid_thw[0]), int(half.video_grid_thw[0])) == (8, 4)
    steps = [
        one.position_ids[0][one.input_ids == base.encoder(PLENTY, None).tokenizer.id("<|VIDEO|>")]
        .unique()
        .diff()
        for one in (whole, half)
    ]
    assert float(steps[1].float().mean()) == pytest.approx(2 * float(steps[0].float().mean()), rel=0.05)


def test_a_long_text_is_refused_with_both_numbers(bases: dict[str, BaseModel], tmp_path: Path) -> None:
    encoder = limited(bases["llama"], 10)
    with pytest.raises(
        InputError, match=r"^tiny/train/3: \d\d+ tokens .* finetune.max_tokens is 10; raise it"
    ):
        encoder(tiny.row(3))

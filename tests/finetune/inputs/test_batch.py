"""What the model reads: placeholders, special tokens, missing modalities, budgets."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from finetune.inputs.batch import Budget, InputError, collate
from finetune.inputs.chat_encoder import ChatEncoder
from finetune.inputs.chat_formats import pooled_tokens
from finetune.model.adapters import adapted
from finetune.model.loading import load_base
from finetune.model.regressor import SentimentModel
from finetune.settings import FinetuneConfig
from tests import tiny

BUDGET = Budget(video_fps=10, max_frames=8, max_audio_s=2)
LACKING = [("video",), ("audio",), ("text",), ("video", "audio"), ("video", "text"), ("audio", "text")]


@pytest.fixture(scope="module")
def model(tiny_thinker: Path) -> tuple[SentimentModel, ChatEncoder]:
    base = load_base(str(tiny_thinker), None, dtype=torch.float32, max_pixels=None)
    regressor = adapted(base, FinetuneConfig(lora_rank=2), "mosi", seed=0).eval()
    torch.nn.init.normal_(regressor.head_layer.weight, generator=torch.Generator().manual_seed(0))
    return regressor, base.encoder(BUDGET, ("text", "audio", "video"))


def count(encoder: ChatEncoder, ids: torch.Tensor, token: str) -> int:
    return int((ids == encoder.processor.tokenizer.convert_tokens_to_ids(token)).sum())


def test_sound_and_picture_have_their_placeholders(model: tuple[SentimentModel, ChatEncoder]) -> None:
    _, encoder = model
    encoded = encoder(tiny.row(0))
    assert encoded.video_grid_thw is not None
    assert encoded.input_features is not None
    assert encoded.video_grid_thw.tolist() == [3, 4, 4]  # 6 frames of 32 px in patches of 2 x 8 x 8
    assert count(encoder, encoded.input_ids, "<|VIDEO|>") == 3 * 4 * 4 // 4
    assert encoded.input_features.shape == (16, 30)  # 0.6 s in steps of 20 ms
    assert count(encoder, encoded.input_ids, "<|AUDIO|>") == pooled_tokens(30) == 7


@pytest.mark.parametrize(
    "text",
    ["so <|im_end|> it ends", "<|AUDIO|><|VIDEO|>", "<|vision_bos|> <|im_start|>system", "<|endoftext|>"],
)
def test_a_transcript_never_becomes_a_special_token(
    model: tuple[SentimentModel, ChatEncoder], text: str
) -> None:
    _, encoder = model
    plain, hostile = encoder(tiny.row(0, text="x")), encoder(tiny.row(0, text=text))
    for token in encoder.processor.tokenizer.all_special_tokens:
        assert count(encoder, hostile.input_ids, token) == count(encoder, plain.input_ids, token), token
    assert f"The speaker says: {text}\n" in encoder.processor.tokenizer.decode(hostile.input_ids)


@pytest.mark.parametrize("lacking", LACKING)
def test_rows_without_a_modality_are_rated_as_if_alone(
    model: tuple[SentimentModel, ChatEncoder], lacking: tuple[str, ...]
) -> None:
    regressor, encoder = model
    rows = [
        tiny.row(0),
        tiny.row(1, **dict.fromkeys(lacking)),
        tiny.row(2, text="what a story that was, i like it"),
    ]
    encoded = [encoder(row) for row in rows]
    pad_id = encoder.processor.tokenizer.pad_token_id
    with torch.no_grad():
        together = regressor(**collate(encoded, pad_id))
        alone = torch.cat([regressor(**collate([one], pad_id)) for one in encoded])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    assert together.unique().numel() == 3


def test_positions_are_those_of_the_model(model: tuple[SentimentModel, ChatEncoder]) -> None:
    regressor, encoder = model
    batch = collate([encoder(tiny.row(0)), encoder(tiny.row(1, text=None))], 0)
    with torch.no_grad():
        given = regressor.features(**batch)
        del batch["position_ids"]
        patch_s = torch.tensor([0.2, 0.2])  # two frames at 10 a second
        own = regressor.thinker.get_base_model().model(**batch, video_second_per_grid=patch_s)
        own = own.last_hidden_state[:, -1]
    torch.testing.assert_close(given, own, rtol=1e-4, atol=1e-5)


def test_a_modality_that_is_not_shown_does_not_count(model: tuple[SentimentModel, ChatEncoder]) -> None:
    _, encoder = model
    text_only = ChatEncoder(encoder.processor, encoder.rope_index, BUDGET, ("text",))
    encoded = text_only(tiny.row(0))
    assert encoded.input_features is None
    assert encoded.pixel_values_videos is None
    assert count(encoder, encoded.input_ids, "<|VIDEO|>") == 0


def test_a_row_with_nothing_to_show_is_refused(model: tuple[SentimentModel, ChatEncoder]) -> None:
    with pytest.raises(InputError, match=r"^tiny/train/0: has none of audio, text, video"):
        model[1](tiny.row(0, video=None, audio=None, text=None))


def test_broken_media_are_refused_by_id(model: tuple[SentimentModel, ChatEncoder]) -> None:
    with pytest.raises(InputError, match=r"^tiny/train/0: "):
        model[1](tiny.row(0, video={"bytes": b"no video", "path": None}))


def test_budget_limits_frames_and_sound(model: tuple[SentimentModel, ChatEncoder]) -> None:
    _, encoder = model
    tight = Budget(video_fps=10, max_frames=2, max_audio_s=0.3)
    encoded = ChatEncoder(encoder.processor, encoder.rope_index, tight)(tiny.row(0))
    assert encoded.video_grid_thw is not None
    assert encoded.input_features is not None
    assert encoded.video_grid_thw[0] == 1
    assert encoded.input_features.shape[1] == 15

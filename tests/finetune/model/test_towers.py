"""The two halves of a forward pass: together the model's own, each clip and each row as if alone."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch

from finetune.inputs.batch import Encoded, collate
from finetune.inputs.chat_encoder import ChatEncoder
from finetune.model import towers
from finetune.model.loading import BaseModel
from finetune.model.parts import VISION_TOWER, language_model, part
from tests.finetune.family_inputs import (
    BUDGET,
    FPS,
    MULTIMODAL,
    by_processor,
    clip,
    combinations,
    every,
    without,
)


@every(MULTIMODAL)
@pytest.mark.parametrize("seconds", [0.7, 1.4])
def test_both_halves_are_the_models_own_forward(
    bases: dict[str, BaseModel], name: str, seconds: float
) -> None:
    """On what the processor gives, places left to the model."""
    base, row = bases[name], clip(seconds)
    encoder = base.encoder(BUDGET, None, audio_in_video=False)
    for shown in combinations(base):
        theirs = by_processor(base, row, shown)
        if theirs.pop("video_second_per_grid", None) is not None:
            theirs["video_second_per_grid"] = torch.tensor([2 / FPS])
        with torch.no_grad():
            ours = towers.last_hidden_state(base.thinker, **collate([encoder(without(row, shown))], 0))
        torch.testing.assert_close(ours, _own_forward(base, theirs), rtol=1e-5, atol=1e-5)


def _own_forward(base: BaseModel, given: dict[str, Any]) -> torch.Tensor:
    """What a model's language model makes of a processor's output in the model's own forward pass."""
    found: list[torch.Tensor] = []
    decoder = language_model(base.thinker)
    hook = decoder.register_forward_hook(lambda *called: found.append(called[-1].last_hidden_state))
    taken = inspect.signature(base.thinker.forward).parameters
    with torch.no_grad():
        base.thinker(**{name: given[name] for name in taken if name in given})
    hook.remove()
    return found[0]


def test_a_language_models_own_forward_is_both_halves(bases: dict[str, BaseModel]) -> None:
    for name in ("qwen2", "qwen3", "llama"):
        base = bases[name]
        batch = collate([base.encoder(BUDGET, None)(clip(0.7))], 0)
        with torch.no_grad():
            own = base.thinker.model(batch["input_ids"]).last_hidden_state
            torch.testing.assert_close(towers.last_hidden_state(base.thinker, **batch), own)


@every()
def test_rows_in_a_batch_are_read_as_if_alone(bases: dict[str, BaseModel], name: str) -> None:
    """Long and short, with and without sound and picture."""
    base = bases[name]
    encoder = base.encoder(BUDGET, None)
    rows = [clip(seconds, number) for number, seconds in enumerate((0.7, 1.4, 0.4, 1.2))]
    rows += [without(clip(0.8, 7), shown) for shown in combinations(base)]
    encoded = [encoder(row) for row in rows]
    with torch.no_grad():
        together = towers.last_hidden_state(base.thinker, **collate(encoded, 0))[:, -1]
        alone = [towers.last_hidden_state(base.thinker, **collate([one], 0))[:, -1] for one in encoded]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-5)
    assert len(together.unique(dim=0)) == (len(rows) if name in MULTIMODAL else 1)


@every(MULTIMODAL)
def test_towers_give_one_tensor_a_clip(bases: dict[str, BaseModel], name: str) -> None:
    base = bases[name]
    encoder = base.encoder(BUDGET, None)
    rows = [encoder(clip(0.7)), encoder(clip(1.4, 1))]
    batch, model = collate(rows, 0), base.thinker
    levels = 2 if "qwen3" in name else 1
    with torch.no_grad():
        if "video" in base.family.modalities:
            seen = towers.encode_video(model, batch["pixel_values_videos"], batch["video_grid_thw"])
            assert [one.shape[0] for one in seen] == [count(encoder, row, "video") for row in rows]
            width = model.config.get_text_config().hidden_size
            assert {one.shape[1] for one in seen} == {width * levels}
        if "audio" in base.family.modalities:
            heard = towers.encode_audio(model, batch["input_features"], batch["feature_attention_mask"])
            assert [one.shape[0] for one in heard] == [count(encoder, row, "audio") for row in rows]


def count(encoder: ChatEncoder, row: Encoded, modality: str) -> int:
    chat: Any = getattr(encoder.chat, modality)
    return int((row.input_ids == encoder.tokenizer.id(chat.token)).sum())


def test_frozen_towers_keep_nothing_for_gradients(bases: dict[str, BaseModel]) -> None:
    base = bases["qwen3_omni_moe_thinker"]
    batch = collate([base.encoder(BUDGET, None)(clip(0.7))], 0)
    seen = towers.encode_video(base.thinker, batch["pixel_values_videos"], batch["video_grid_thw"])
    assert not seen[0].requires_grad
    tower = part(base.thinker, VISION_TOWER)
    assert tower is not None
    tower.requires_grad_(True)
    try:
        seen = towers.encode_video(base.thinker, batch["pixel_values_videos"], batch["video_grid_thw"])
        assert seen[0].requires_grad
    finally:
        base.thinker.requires_grad_(False)

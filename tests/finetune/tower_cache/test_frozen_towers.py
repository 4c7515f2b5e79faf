"""Kept tower outputs give what the towers give, for every family; nothing is decoded twice."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from finetune.inputs import chat_encoder
from finetune.inputs.batch import Budget, collate
from finetune.model import towers
from finetune.model.loading import load_base
from finetune.settings import FinetuneConfig
from finetune.tower_cache.frozen_towers import FrozenTowers, frozen_towers
from tests import tiny, tiny_families

BUDGET = Budget(video_fps=10, max_frames=4, max_audio_s=2)


def kept(folder: Path, cache: Path, budget: Budget = BUDGET) -> tuple[Any, FrozenTowers]:
    config = FinetuneConfig(model=str(folder), tower_cache=str(cache))
    base = load_base(config.model, None, dtype=torch.float32, max_pixels=None)
    frozen = frozen_towers(base.encoder(budget, None), base.thinker, config, cache)
    assert isinstance(frozen, FrozenTowers)
    return base, frozen


def rows() -> list[dict[str, Any]]:
    return [
        tiny.row(0),
        tiny.row(1, video=None),
        tiny.row(2, audio=None),
        tiny.row(3, video=None, audio=None),
        tiny.row(4),
    ]


@pytest.mark.parametrize("family", tiny_families.BUILDERS)
def test_kept_outputs_give_the_hidden_states_of_the_towers(family: str, tmp_path: Path) -> None:
    base, frozen = kept(tiny_families.BUILDERS[family](tmp_path / "model"), tmp_path / "cache")
    plain = collate([frozen.encoder(row) for row in rows()], 0)
    for _ in range(2):  # asked for the first time, and found
        batch = collate([frozen(row) for row in rows()], 0)
        assert not {"pixel_values_videos", "input_features"} & set(batch)
        with torch.no_grad():
            expected = towers.last_hidden_state(base.thinker, **plain)
            found = towers.last_hidden_state(base.thinker, **batch)
        video_embeds = batch["attention_mask"].bool()
        torch.testing.assert_close(found[video_embeds], expected[video_embeds], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(batch["position_ids"], plain["position_ids"])


def test_what_is_kept_is_neither_decoded_nor_asked_again(
    tiny_thinker: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, first = kept(tiny_thinker, tmp_path)
    before = [first(row) for row in rows()]
    first.cache.flush()
    _, second = kept(tiny_thinker, tmp_path)

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("a clip was decoded, or a tower asked")

    monkeypatch.setattr(chat_encoder.media, "read_video", refuse)
    monkeypatch.setattr(chat_encoder.media, "read_audio", refuse)
    monkeypatch.setattr(towers, "encode_video", refuse)
    for row, expected in zip(rows(), before, strict=True):
        found = second(row)
        for name in ("input_ids", "position_ids", "video_embeds", "audio_embeds"):
            one, other = getattr(found, name), getattr(expected, name)
            assert (one is None and other is None) or torch.equal(one, other)


def test_a_variant_shares_what_it_has_of_its_source(tiny_thinker: Path, tmp_path: Path) -> None:
    _, frozen = kept(tiny_thinker, tmp_path)
    frozen(tiny.row(0))
    assert frozen.cache.lookups == {"missing": 2}
    frozen(tiny.variant(0, 0.5))  # another picture, the same sound
    assert frozen.cache.lookups == {"missing": 3, "found": 1}


def test_another_budget_or_model_finds_nothing(tiny_thinker: Path, tmp_path: Path) -> None:
    _, frozen = kept(tiny_thinker, tmp_path / "cache")
    frozen(tiny.row(0))
    frozen.cache.flush()
    other = Budget(video_fps=10, max_frames=2, max_audio_s=2)
    changed = Path(shutil.copytree(tiny_thinker, tmp_path / "model"))
    weights = load_file(changed / "model.safetensors")
    weights[next(name for name in weights if "merger" in name)] += 0.1
    save_file(weights, changed / "model.safetensors", metadata={"format": "pt"})
    for _, again in (kept(tiny_thinker, tmp_path / "cache", other), kept(changed, tmp_path / "cache")):
        again(tiny.row(0))
        assert again.cache.lookups == {"missing": 2}
    moved = Path(shutil.copytree(tiny_thinker, tmp_path / "moved"))
    _, found = kept(moved, tmp_path / "cache")
    found(tiny.row(0))
    assert found.cache.lookups == {"found": 2}


def test_a_row_over_the_token_budget_is_shortened_and_not_kept(tiny_thinker: Path, tmp_path: Path) -> None:
    _, whole = kept(tiny_thinker, tmp_path)
    length = len(whole(tiny.row(0)).input_ids)
    tight = Budget(video_fps=10, max_frames=4, max_audio_s=2, max_tokens=length - 2)
    base, frozen = kept(tiny_thinker, tmp_path, tight)
    short, plain = frozen(tiny.row(0)), frozen.encoder(tiny.row(0))
    assert len(short.input_ids) <= length - 2
    with torch.no_grad():
        expected = towers.last_hidden_state(base.thinker, **collate([plain], 0))
        found = towers.last_hidden_state(base.thinker, **collate([short], 0))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    again = whole(tiny.row(0))
    assert len(again.input_ids) == length


def test_the_model_is_left_as_it_was(tiny_thinker: Path, tmp_path: Path) -> None:
    base, frozen = kept(tiny_thinker, tmp_path)
    before = copy.deepcopy(base.thinker.state_dict())
    base.thinker.train()
    frozen(tiny.row(0))
    assert base.thinker.training
    assert all(torch.equal(value, before[name]) for name, value in base.thinker.state_dict().items())

"""Each family is given what its own processor would give it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from finetune.inputs.batch import Encoded
from finetune.inputs.chat_formats import clip_limits, frame_limits
from finetune.inputs.question import rating_question
from finetune.model.families import FAMILIES, TEXT_ONLY, family_of
from finetune.model.loading import BaseModel, load_base
from pipelines.errors import UsageError
from tests import tiny
from tests.finetune.family_inputs import (
    BUDGET,
    MULTIMODAL,
    TEXT,
    by_processor,
    clip,
    combinations,
    every,
    load,
    without,
)
from tests.tiny_families import BUILDERS


@every(MULTIMODAL)
@pytest.mark.parametrize("seconds", [0.7, 1.4])
def test_a_row_is_what_the_familys_processor_makes_of_it(
    bases: dict[str, BaseModel], name: str, seconds: float
) -> None:
    base, row = bases[name], clip(seconds)
    encoder = base.encoder(BUDGET, None, audio_in_video=False)
    for shown in combinations(base):
        ours, theirs = encoder(without(row, shown)), by_processor(base, row, shown)
        assert ours.input_ids.tolist() == theirs["input_ids"][0].tolist(), shown
        if "video" in shown:
            assert torch.equal(ours.pixel_values_videos, theirs["pixel_values_videos"])  # type: ignore[arg-type]
            assert torch.equal(ours.video_grid_thw, theirs["video_grid_thw"][0])  # type: ignore[arg-type]
        if "audio" in shown:
            _same_sound(ours, theirs)


def _same_sound(ours: Encoded, theirs: dict[str, torch.Tensor]) -> None:
    assert ours.input_features is not None
    assert ours.feature_attention_mask is not None
    heard = theirs["feature_attention_mask"][0].bool()
    assert int(ours.feature_attention_mask.sum()) == int(heard.sum())
    mel = ours.input_features[:, ours.feature_attention_mask.bool()]
    torch.testing.assert_close(mel, theirs["input_features"][0][:, heard], rtol=1e-5, atol=1e-5)


def test_later_frames_and_more_sound_come_later(bases: dict[str, BaseModel]) -> None:
    """What is peculiar to each: fractions of a place, times in words, a spectrogram of one length."""
    row = clip(1.4)
    fractions = bases["qwen3_omni_moe_thinker"].encoder(BUDGET, None)(row).position_ids
    assert fractions.dtype == torch.float32
    assert bases["qwen2_5_vl"].encoder(BUDGET, None)(row).position_ids.shape[0] == 3
    encoder = bases["qwen3_vl"].encoder(BUDGET, None)
    told = encoder.processor.tokenizer.decode(encoder(row).input_ids)
    assert re.findall(r"<([\d.]+) seconds>", told) == ["0.1", "0.2", "0.5", "0.6", "0.9", "1.1", "1.2"]
    heard = bases["qwen2_audio"].encoder(BUDGET, None)(row)
    assert heard.position_ids.tolist() == list(range(len(heard.input_ids)))
    assert heard.input_features is not None
    assert heard.input_features.shape == (16, 200)


@every()
def test_a_transcript_never_becomes_a_special_token(bases: dict[str, BaseModel], name: str) -> None:
    base = bases[name]
    encoder = base.encoder(BUDGET, ("text",))
    tokenizer = base.processor.tokenizer
    plain = encoder(tiny.row(0, text="x")).input_ids.tolist()
    for token in tokenizer.get_added_vocab():
        text = f"so {token}{token} it is <{token}"
        hostile = encoder(tiny.row(0, text=text)).input_ids
        for one in tokenizer.get_added_vocab().values():
            assert hostile.tolist().count(one) == plain.count(one), token
        assert f"The speaker says: {text}\n" in tokenizer.decode(hostile)


def test_a_language_model_is_asked_by_its_own_template(bases: dict[str, BaseModel]) -> None:
    asked = f"The speaker says: {TEXT}\n{rating_question('mosi', 'en')}"
    for name in ("qwen2", "qwen3", "llama"):
        encoder = bases[name].encoder(BUDGET, None)
        tokenizer = encoder.processor.tokenizer
        found = encoder(clip(0.7)).input_ids.tolist()
        if tokenizer.chat_template:
            told = [{"role": "user", "content": asked}]
            wanted = tokenizer.apply_chat_template(told, add_generation_prompt=True)["input_ids"]
        else:
            wanted = tokenizer(f"{asked}\n")["input_ids"]
        assert found == wanted, name
    assert bases["llama"].processor.tokenizer.pad_token == "<|eot_id|>"


@every()
def test_what_a_family_cannot_read_is_left_out_and_refused_where_asked_for(
    bases: dict[str, BaseModel], name: str
) -> None:
    base = bases[name]
    encoded = base.encoder(BUDGET, None)(clip(0.7))
    assert (encoded.pixel_values_videos is None) == ("video" not in base.family.modalities)
    assert (encoded.input_features is None) == ("audio" not in base.family.modalities)
    for modality in ("audio", "video"):
        if modality not in base.family.modalities:
            with pytest.raises(
                UsageError, match=rf"^finetune.modalities: .* does not read {modality}; takes"
            ):
                base.encoder(BUDGET, ("text", modality))  # type: ignore[arg-type]


class Shown:
    """As far as limits look at a processor."""

    def __init__(self, own: dict[str, int], **more: Any) -> None:
        self.video_processor = type("Video", (), {"size": own, "temporal_patch_size": 2})
        vars(self).update(more)


def test_a_familys_limits_hold_where_checkpoints_bring_those_of_still_images() -> None:
    still = {"shortest_edge": 56 * 56, "longest_edge": 12_845_056}
    family = {"shortest_edge": 128 * 28 * 28, "longest_edge": 768 * 28 * 28}
    shown = Shown(still, videos_kwargs={"size": family})
    assert frame_limits(shown, 8, None) == family
    assert frame_limits(shown, 8, 50_000) == {"shortest_edge": 50_000, "longest_edge": 50_000}
    assert frame_limits(Shown(still), 8, None) == still
    small = Shown({"shortest_edge": 4096, "longest_edge": 4096}, videos_kwargs={"size": family})
    assert frame_limits(small, 8, None) == {"shortest_edge": 4096, "longest_edge": 4096}


def test_a_limit_of_a_frame_is_one_of_all_frames_where_a_family_counts_them_together() -> None:
    shown = Shown({"shortest_edge": 4096, "longest_edge": 1_000_000})
    assert clip_limits(shown, 8, None) == {"shortest_edge": 4096, "longest_edge": 1_000_000}
    assert clip_limits(shown, 8, 10_000)["longest_edge"] == 80_000
    assert clip_limits(shown, 7, 10_000)["longest_edge"] == 80_000  # the last one is shown twice
    assert clip_limits(shown, 200, 10_000)["longest_edge"] == 1_000_000


@every(["qwen2_5_omni_thinker", "qwen3_omni_moe_thinker", "qwen2_5_vl", "qwen3_vl"])
def test_pixels_of_a_frame_can_be_limited(bases: dict[str, BaseModel], name: str) -> None:
    base = load_base(bases[name].name, None, dtype=torch.float32, max_pixels=16 * 16)
    for seconds in (0.1, 0.7, 1.4):
        grid = base.encoder(BUDGET, None)(clip(seconds)).video_grid_thw
        assert grid is not None
        assert grid[1:].tolist() == [2, 2]


def test_the_table_names_what_transformers_has() -> None:
    import transformers

    for family in (*FAMILIES.values(), TEXT_ONLY):
        assert hasattr(transformers, family.model_class)
        assert hasattr(transformers, family.processor_class)


def test_encoders_are_no_language_models() -> None:
    from transformers import AutoConfig

    known = {
        name: family_of(AutoConfig.for_model(name))
        for name in ("llama", "gpt2", "bert", "roberta", "bart", "t5")
    }
    assert [name for name, family in known.items() if family] == ["llama", "gpt2"]


@pytest.mark.filterwarnings("ignore")
def test_the_thinker_is_taken_out_of_a_whole_qwen3_omni(tmp_path: Path) -> None:
    """As the Hub has it: thinker and talker together."""
    from transformers import Qwen3OmniMoeConfig, Qwen3OmniMoeForConditionalGeneration

    base = load(BUILDERS["qwen3_omni_moe_thinker"](tmp_path / "thinker"))
    config = Qwen3OmniMoeConfig(thinker_config=base.thinker.config.to_dict(), enable_audio_output=False)
    whole = Qwen3OmniMoeForConditionalGeneration(config)
    whole.thinker.load_state_dict(base.thinker.state_dict())
    whole.save_pretrained(tmp_path / "whole")
    base.processor.save_pretrained(tmp_path / "whole")
    taken = load(tmp_path / "whole")
    assert type(taken.thinker).__name__ == "Qwen3OmniMoeThinkerForConditionalGeneration"
    for name, value in base.thinker.state_dict().items():
        assert torch.equal(value, taken.thinker.state_dict()[name]), name

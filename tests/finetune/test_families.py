"""Each family reads what its own processor would give it, and reads it as its own model does."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from finetune import evaluation, towers
from finetune.chat_encoder import ChatEncoder
from finetune.chats import clip_limits, frame_limits
from finetune.families import FAMILIES, TEXT_ONLY, family_of
from finetune.inputs import Budget, Encoded, collate
from finetune.omni import BaseModel, adapted, load_base
from finetune.prompts import rating_question
from finetune.rater import Rater
from finetune.run import main
from finetune.settings import FinetuneConfig, Part
from pipelines import media
from pipelines.errors import UsageError
from pipelines.sample import Row
from pipelines.sample import media as in_row
from tests import tiny
from tests.tiny_families import BUILDERS

FPS = 10.0
BUDGET = Budget(video_fps=FPS, max_frames=20, max_audio_s=4)
MULTIMODAL = [name for name in BUILDERS if name not in ("qwen2", "qwen3", "llama")]
SHOWN = [
    ("text", "audio", "video"),
    ("text", "video"),
    ("text", "audio"),
    ("audio", "video"),
    ("video",),
    ("audio",),
    ("text",),
]
TEXT = "what a story that was"


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, BaseModel]:
    """A model of each family, loaded as a user's would be."""
    return {name: load(build(tmp_path_factory.mktemp(name))) for name, build in BUILDERS.items()}


def load(directory: Path) -> BaseModel:
    return load_base(str(directory), None, dtype=torch.float32, max_pixels=None)


def clip(seconds: float, number: int = 0) -> Row:
    """A row of so many seconds; its sound ends in silence, which a processor's padding goes on with."""
    rng = np.random.default_rng(number)
    frames = rng.integers(0, 256, size=(round(FPS * seconds), 32, 32, 3), dtype=np.uint8)
    samples = rng.normal(0, 0.1, round(16_000 * seconds)).astype(np.float32)
    samples[-1600:] = 0
    media_of_row = {
        "video": in_row(media.encode_video(frames, FPS)),
        "audio": in_row(media.encode_audio(samples)),
    }
    return tiny.row(number, duration_s=seconds, text=TEXT, **media_of_row)


def without(row: Row, shown: tuple[str, ...]) -> Row:
    return row | {name: None for name in ("text", "audio", "video") if name not in shown}


def combinations(base: BaseModel) -> list[tuple[str, ...]]:
    """What rows for a family may have."""
    return [shown for shown in SHOWN if set(shown) <= set(base.family.modalities)]


def every(names: list[str] = list(BUILDERS)) -> Any:  # noqa: B006
    return pytest.mark.parametrize("name", names)


# What the family's own processor makes of a row


def by_processor(base: BaseModel, row: Row, shown: tuple[str, ...]) -> dict[str, torch.Tensor]:
    """A row through the processor and its chat template; only the frames' rate is ours."""
    processor = base.processor
    content: list[dict[str, str]] = []
    content += [{"type": "video"}] * ("video" in shown) + [{"type": "audio"}] * ("audio" in shown)
    said = f"The speaker says: {TEXT}\n" if "text" in shown else ""
    content += [{"type": "text", "text": said + rating_question("mosi", "en")}]
    system = {"role": "system", "content": [{"type": "text", "text": "You are a helpful assistant."}]}
    messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
    if base.family.chat.turn.__name__ == "chatml_with_system":
        messages.insert(0, system)
    given: dict[str, Any] = {"text": [_prompt(processor, messages)], "return_tensors": "pt"}
    if "video" in shown:
        frames = torch.from_numpy(media.read_video(row["video"]["bytes"], fps=FPS).frames)
        given["videos"] = [frames.permute(0, 3, 1, 2)]
        given["videos_kwargs"] = _frame_settings(base, len(frames))
    if "audio" in shown:
        given["audio"] = [media.read_audio(row["audio"]["bytes"], sampling_rate=16_000)]
        given["audio_kwargs"] = {"sampling_rate": 16_000}
    return dict(processor(**given))


def _prompt(processor: Any, messages: list[dict[str, Any]]) -> str:
    if type(processor).__name__ == "Qwen2_5OmniProcessor":
        from tests.tiny_families import OMNI_CHAT

        names = {"vision_start": "vision_bos", "video_pad": "VIDEO", "vision_end": "vision_eos"}
        names |= {"audio_start": "audio_bos", "audio_pad": "AUDIO", "audio_end": "audio_eos"}
        chat = re.sub(r"(?<=<\|)\w+(?=\|>)", lambda found: names.get(found[0], found[0]), OMNI_CHAT)
        return processor.apply_chat_template(messages, chat_template=chat, add_generation_prompt=True)
    prompt = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    if type(processor).__name__ == "Qwen3VLProcessor":
        # It writes marks around each frame and leaves the template's around them all, which its checkpoints
        # have not seen: given the placeholder alone, it writes what they have.
        prompt = prompt.replace("<|vision_start|><|video_pad|><|vision_end|>", "<|video_pad|>")
    return prompt


def _frame_settings(base: BaseModel, frames: int) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "do_sample_frames": False,
        "cap_pixels_per_frame": False,
        "size": base.family.chat.video.size(base.processor, frames, None),  # type: ignore[union-attr]
    }
    if "Omni" in type(base.processor).__name__:
        return settings | {"fps": FPS}
    told = {"fps": FPS, "total_num_frames": frames, "frames_indices": list(range(frames))}
    return settings | {"video_metadata": [told | {"duration": frames / FPS}]}


@every(MULTIMODAL)
@pytest.mark.parametrize("seconds", [0.7, 1.4])
def test_a_row_is_what_the_familys_processor_makes_of_it(
    bases: dict[str, BaseModel], name: str, seconds: float
) -> None:
    base, row = bases[name], clip(seconds)
    encoder = base.encoder(BUDGET, None)
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


@every(MULTIMODAL)
@pytest.mark.parametrize("seconds", [0.7, 1.4])
def test_both_halves_are_the_models_own_forward(
    bases: dict[str, BaseModel], name: str, seconds: float
) -> None:
    """On what the processor gives, places left to the model."""
    base, row = bases[name], clip(seconds)
    encoder = base.encoder(BUDGET, None)
    for shown in combinations(base):
        theirs = by_processor(base, row, shown)
        if theirs.pop("video_second_per_grid", None) is not None:
            theirs["video_second_per_grid"] = torch.tensor([2 / FPS])
        with torch.no_grad():
            ours = towers.last_hidden_state(base.thinker, **collate([encoder(without(row, shown))], 0))
            own = base.thinker.model(**_known(base, theirs)).last_hidden_state
        torch.testing.assert_close(ours, own, rtol=1e-5, atol=1e-5)


def _known(base: BaseModel, given: dict[str, Any]) -> dict[str, Any]:
    """What a model's forward takes of a processor's output."""
    import inspect

    return {
        name: given[name]
        for name in inspect.signature(base.thinker.model.forward).parameters
        if name in given
    }


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
            seen = towers.see(model, batch["pixel_values_videos"], batch["video_grid_thw"])
            assert [one.shape[0] for one in seen] == [count(encoder, row, "video") for row in rows]
            width = model.config.get_text_config().hidden_size
            assert {one.shape[1] for one in seen} == {width * levels}
        if "audio" in base.family.modalities:
            heard = towers.hear(model, batch["input_features"], batch["feature_attention_mask"])
            assert [one.shape[0] for one in heard] == [count(encoder, row, "audio") for row in rows]


def count(encoder: ChatEncoder, row: Encoded, modality: str) -> int:
    chat: Any = getattr(encoder.chat, modality)
    return int((row.input_ids == encoder.words.id(chat.token)).sum())


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


# Text


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


def test_a_language_models_own_forward_is_both_halves(bases: dict[str, BaseModel]) -> None:
    for name in ("qwen2", "qwen3", "llama"):
        base = bases[name]
        batch = collate([base.encoder(BUDGET, None)(clip(0.7))], 0)
        with torch.no_grad():
            own = base.thinker.model(batch["input_ids"]).last_hidden_state
            torch.testing.assert_close(towers.last_hidden_state(base.thinker, **batch), own)


# Modalities


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


# Adapters


@every()
def test_each_part_can_be_adapted_on_its_own(tmp_path: Path, name: str) -> None:
    directory = BUILDERS[name](tmp_path)
    untouched = load(directory)
    batch = collate([untouched.encoder(BUDGET, None)(clip(0.7))], 0)
    with torch.no_grad():
        own = towers.last_hidden_state(untouched.thinker, **batch)
    for part in untouched.family.adapted:
        base = load(directory)
        model = regressor(base, (part,))
        trained = [name for name, value in model.named_parameters() if value.requires_grad]
        layers = {name.split(".lora_")[0].removeprefix("thinker.base_model.model.") for name in trained} - {
            "readout.head.weight",
            "readout.head.bias",
        }
        assert layers, part
        place = untouched.family.adapted[part]
        assert all(place == "all-linear" or re.fullmatch(place, layer) for layer in layers), part
        with torch.no_grad():
            assert torch.equal(towers.last_hidden_state(model.thinker.get_base_model(), **batch), own), part
        for parameter, value in untouched.thinker.state_dict().items():
            found = model.thinker.get_base_model().state_dict()
            plain = parameter.rpartition(".")
            assert torch.equal(value, found.get(parameter, found.get(f"{plain[0]}.base_layer.{plain[2]}"))), (
                parameter
            )


def regressor(base: BaseModel, parts: tuple[Part, ...]) -> Rater:
    model = adapted(base, FinetuneConfig(lora_rank=2, adapt=parts), "mosi", seed=0)
    torch.nn.init.normal_(model.head.weight, generator=torch.Generator().manual_seed(0))
    return model


def test_parts_do_not_overlap(bases: dict[str, BaseModel]) -> None:
    for name in MULTIMODAL:
        places = bases[name].family.adapted
        layers = [
            key for key, value in bases[name].thinker.named_modules() if isinstance(value, torch.nn.Linear)
        ]
        for layer in layers:
            assert sum(bool(re.fullmatch(place, layer)) for place in places.values()) <= 1, layer
        for part, place in places.items():
            assert any(re.fullmatch(place, layer) for layer in layers), (name, part)


def test_all_linear_layers_of_a_language_model_are_adapted_but_its_head(bases: dict[str, BaseModel]) -> None:
    for name in ("qwen2", "llama"):
        model = adapted(load(Path(bases[name].name)), FinetuneConfig(lora_rank=2), "mosi", seed=0)
        trained = [key for key, value in model.named_parameters() if value.requires_grad and "lora_A" in key]
        assert len(trained) == 2 * 7


def test_experts_are_left_alone(tmp_path: Path) -> None:
    """Also where one of linear layers stands beside them, by the names that experts had once."""
    from transformers import Qwen2MoeConfig, Qwen2MoeForCausalLM

    from tests.tiny_families import save, text_config, tokenizer

    words = tokenizer({})
    sizes = {"moe_intermediate_size": 16, "shared_expert_intermediate_size": 16, "num_experts": 4}
    config = Qwen2MoeConfig(**text_config(words, num_experts_per_tok=2, **sizes))
    base = load(save(tmp_path, words, Qwen2MoeForCausalLM, config))
    model = adapted(base, FinetuneConfig(lora_rank=2), "mosi", seed=0)
    trained = [key for key, value in model.named_parameters() if value.requires_grad and "lora_A" in key]
    assert {key.split(".lora_A")[0].rpartition(".")[2] for key in trained} == {
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "shared_expert_gate",
    }


def test_a_part_that_a_model_lacks_is_refused(bases: dict[str, BaseModel]) -> None:
    with pytest.raises(
        UsageError, match=r"^finetune.adapt: .* has no vision; takes language, projectors, audio"
    ):
        adapted(bases["qwen2_audio"], FinetuneConfig(adapt=("language", "vision")), "mosi", seed=0)


@every()
def test_every_combination_of_modalities_trains_what_it_reaches(tmp_path: Path, name: str) -> None:
    base = load(BUILDERS[name](tmp_path))
    encoder = base.encoder(BUDGET, None)
    model = regressor(base, tuple(base.family.adapted)).train()
    for shown in combinations(base):
        model.zero_grad()
        loss = (
            model(**collate([encoder(without(clip(0.7), shown)), encoder(without(clip(1.4, 1), shown))], 0))
            ** 2
        ).mean()
        assert bool(torch.isfinite(loss)), shown
        loss.backward()
        reached = {
            key
            for key, value in model.named_parameters()
            if value.grad is not None and value.grad.abs().sum() > 0
        }
        assert any("language" in key or name in ("qwen2", "qwen3", "llama") for key in reached), shown
        for modality, tower in (("video", ".visual."), ("audio", ".audio_tower.")):
            assert any(tower in key for key in reached) == (modality in shown), (shown, tower)


@every()
def test_gradient_checkpointing_gives_the_same_gradients(tmp_path: Path, name: str) -> None:
    directory, gradients = BUILDERS[name](tmp_path), []
    for checkpointing in (False, True):
        base = load(directory)
        config = FinetuneConfig(lora_rank=2, gradient_checkpointing=checkpointing)
        model = adapted(base, config, -3, 3, seed=0).train()
        torch.nn.init.normal_(model.head.weight, generator=torch.Generator().manual_seed(0))
        encoder = base.encoder(BUDGET, None)
        model(**collate([encoder(clip(0.7)), encoder(clip(1.4, 1))], 0)).sum().backward()
        gradients.append(
            {key: value.grad for key, value in model.named_parameters() if value.grad is not None}
        )
    assert len(gradients[0]) == len(gradients[1]) > 4
    for key, value in gradients[0].items():
        torch.testing.assert_close(value, gradients[1][key], rtol=1e-4, atol=1e-5)


def test_frozen_towers_keep_nothing_for_gradients(bases: dict[str, BaseModel]) -> None:
    base = bases["qwen3_omni_moe_thinker"]
    batch = collate([base.encoder(BUDGET, None)(clip(0.7))], 0)
    seen = towers.see(base.thinker, batch["pixel_values_videos"], batch["video_grid_thw"])
    assert not seen[0].requires_grad
    base.thinker.model.visual.requires_grad_(True)
    try:
        seen = towers.see(base.thinker, batch["pixel_values_videos"], batch["video_grid_thw"])
        assert seen[0].requires_grad
    finally:
        base.thinker.requires_grad_(False)


# Pixels


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


# The table


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


# The stage


@every(["qwen3_omni_moe_thinker", "qwen2_5_vl", "qwen3_vl", "qwen2_audio", "llama"])
def test_the_stage_trains_and_rates_again(tmp_path: Path, name: str) -> None:
    rows = [tiny.row(n) for n in range(3)] + [tiny.row(3, video=None), tiny.row(4, audio=None)]
    store = tiny.store(tmp_path / "store", rows + [tiny.row(n, "test") for n in range(3)])
    model, out = BUILDERS[name](tmp_path / "model"), tmp_path / "out"
    settings = {"model": model, "epochs": 1, "batch_size": 3, "lora_rank": 2, "max_tokens": 400}
    given = [part for key, value in settings.items() for part in (f"--finetune.{key}", str(value))]
    main(["--data", str(store), "--out", str(out), *given])
    known = json.loads((out / "metrics.json").read_text())["test"]["after"]
    evaluation.main(["--model", str(out), "--data", str(store), "--batch_size", "2"])
    assert json.loads((out / "metrics.json").read_text())["test"]["after"] == pytest.approx(known, rel=1e-4)

"""Where an adapter goes in each family, and that it learns there."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from finetune import evaluation
from finetune.__main__ import main
from finetune.inputs.batch import collate
from finetune.model import towers
from finetune.model.adapters import adapted, adapter_targets, layer_pattern
from finetune.model.loading import BaseModel
from finetune.model.parts import is_in_towers
from finetune.model.regressor import SentimentModel
from finetune.settings import FinetuneConfig, Part
from pipelines.errors import UsageError
from tests import tiny
from tests.finetune.family_inputs import (
    BUDGET,
    MULTIMODAL,
    clip,
    combinations,
    every,
    load,
    without,
)
from tests.tiny_families import BUILDERS


def rater(base: BaseModel, parts: tuple[Part, ...]) -> SentimentModel:
    model = adapted(base, FinetuneConfig(lora_rank=2, adapt=parts), "mosi", seed=0)
    torch.nn.init.normal_(model.head_layer.weight, generator=torch.Generator().manual_seed(0))
    return model


@every()
def test_each_part_can_be_adapted_on_its_own(tmp_path: Path, name: str) -> None:
    directory = BUILDERS[name](tmp_path)
    untouched = load(directory)
    batch = collate([untouched.encoder(BUDGET, None)(clip(0.7))], 0)
    with torch.no_grad():
        own = towers.last_hidden_state(untouched.thinker, **batch)
    for part in untouched.family.adapted:
        base = load(directory)
        model = rater(base, (part,))
        trained = [name for name, value in model.named_parameters() if value.requires_grad]
        layers = {name.split(".lora_")[0].removeprefix("thinker.base_model.model.") for name in trained} - {
            "head.linear.weight",
            "head.linear.bias",
        }
        assert layers, part
        pattern = layer_pattern(untouched.family, untouched.thinker, part)
        assert all(pattern == "all-linear" or re.fullmatch(pattern, layer) for layer in layers), part
        with torch.no_grad():
            assert torch.equal(towers.last_hidden_state(model.thinker.get_base_model(), **batch), own), part
        for parameter, value in untouched.thinker.state_dict().items():
            found = model.thinker.get_base_model().state_dict()
            plain = parameter.rpartition(".")
            assert torch.equal(value, found.get(parameter, found.get(f"{plain[0]}.base_layer.{plain[2]}"))), (
                parameter
            )


def test_parts_do_not_overlap(bases: dict[str, BaseModel]) -> None:
    for name in MULTIMODAL:
        family, thinker = bases[name].family, bases[name].thinker
        patterns = [layer_pattern(family, thinker, part) for part in family.adapted]
        layers = [key for key, value in thinker.named_modules() if isinstance(value, torch.nn.Linear)]
        for layer in layers:
            assert sum(bool(re.fullmatch(pattern, layer)) for pattern in patterns) <= 1, layer
        for pattern in patterns:
            assert any(re.fullmatch(pattern, layer) for layer in layers), (name, pattern)


@every(MULTIMODAL)
def test_layers_that_a_version_of_transformers_calls_otherwise_are_told_of(
    bases: dict[str, BaseModel], name: str
) -> None:
    base = bases[name]
    places = tuple(place._replace(pattern="renamed") for place in base.family.adapted["language"])
    family = replace(base.family, adapted=base.family.adapted | {"language": places})
    with pytest.raises(UsageError, match=r"^finetune.adapt: got language, and transformers 5.* builds"):
        adapter_targets(family, base.thinker, ("language",))


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
    model = rater(base, tuple(base.family.adapted)).train()
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
        assert any("lora_" in key and not is_in_towers(key) for key in reached), shown
        for modality, tower in (("video", ".visual."), ("audio", ".audio_tower.")):
            assert any(tower in key for key in reached) == (modality in shown), (shown, tower)


@every()
def test_gradient_checkpointing_gives_the_same_gradients(tmp_path: Path, name: str) -> None:
    directory, gradients = BUILDERS[name](tmp_path), []
    for checkpointing in (False, True):
        base = load(directory)
        config = FinetuneConfig(lora_rank=2, gradient_checkpointing=checkpointing)
        model = adapted(base, config, "mosi", seed=0).train()
        torch.nn.init.normal_(model.head_layer.weight, generator=torch.Generator().manual_seed(0))
        encoder = base.encoder(BUDGET, None)
        model(**collate([encoder(clip(0.7)), encoder(clip(1.4, 1))], 0)).sum().backward()
        gradients.append(
            {key: value.grad for key, value in model.named_parameters() if value.grad is not None}
        )
    assert len(gradients[0]) == len(gradients[1]) > 4
    for key, value in gradients[0].items():
        torch.testing.assert_close(value, gradients[1][key], rtol=1e-4, atol=1e-5)


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

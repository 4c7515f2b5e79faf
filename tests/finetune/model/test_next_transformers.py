"""What is announced of the next transformers, and models that another version has written.

5.25 lets an omni model find out by itself whether sound lies in a video (`use_audio_in_video` goes), calls
the cache of keys and values `cache`, and puts no sound behind a video by its chat template. Up to 5.17 a
thinker's language model was `model`, later `model.language_model`.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from finetune.inputs.batch import collate
from finetune.model import towers
from finetune.model.adapters import adapted
from finetune.model.loading import BaseModel
from finetune.model.parts import canonical_name, language_model
from finetune.model.regressor import SentimentModel
from finetune.settings import FinetuneConfig
from pipelines.errors import RunError
from tests.finetune.family_inputs import BUDGET, MULTIMODAL, clip, every, load
from tests.tiny_families import BUILDERS

ROOT = Path(__file__).resolve().parents[3]
GOING = {"use_audio_in_video", "past_key_values"}
"""Names of transformers that 5.25 takes away."""


def names_in(path: Path) -> Iterator[str]:
    """The names, attributes, keywords and short strings of a module."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.keyword):
            yield node.arg or ""
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_nothing_of_ours_uses_a_name_that_goes() -> None:
    packages = ("augment", "score", "finetune", "pipelines")
    modules = [path for package in packages for path in (ROOT / package).rglob("*.py")]
    assert len(modules) > 200
    assert {str(path): GOING & set(names_in(path)) for path in modules if GOING & set(names_in(path))} == {}


@every(MULTIMODAL)
def test_a_model_without_the_names_that_go_is_read_alike(bases: dict[str, BaseModel], name: str) -> None:
    """Its functions take none of them, and complain of what they do not know."""
    base = bases[name]
    rows = [clip(0.7), clip(1.4, 1)]
    batch = collate(base.encoder(BUDGET, None).many(rows), 0)
    with torch.no_grad():
        wanted = towers.last_hidden_state(base.thinker, **batch)
        decoder = language_model(base.thinker)
        plain, owner = decoder.forward, _owner_of_position_ids(base.thinker)
        places = owner.get_rope_index if owner else None
        decoder.forward = _without(plain)
        if owner:
            owner.get_rope_index = _without(places)
        try:
            encoder = base.encoder(BUDGET, None)
            found = towers.last_hidden_state(base.thinker, **collate(encoder.many(rows), 0))
        finally:
            del decoder.forward
            if owner:
                del owner.get_rope_index
    assert torch.equal(found, wanted)


def _owner_of_position_ids(model: Any) -> Any:
    return next((each for each in (model, model.base_model) if hasattr(each, "get_rope_index")), None)


def _without(function: Any) -> Any:
    """A function as the next version has it: it takes neither the names that go nor arguments by place."""
    known = inspect.signature(function)
    kept = [value for value in known.parameters.values() if value.name not in GOING]

    def called(*args: Any, **given: Any) -> Any:
        assert not GOING & set(given)
        assert len(args) <= 1, "arguments by place would be taken for others"
        return function(*args, **given)

    called.__signature__ = known.replace(parameters=kept)  # type: ignore[attr-defined]
    return called


def moved(model: SentimentModel) -> SentimentModel:
    """With an adapter that is not at its zero start."""
    generator = torch.Generator().manual_seed(0)
    for name, value in model.named_parameters():
        if value.requires_grad:
            torch.nn.init.normal_(value, std=0.1, generator=generator)
            assert "lora_" in name or name.startswith("head.")
    return model


PLACES = {  # where versions of transformers put a thinker's parts
    "5.17": {
        ".model.language_model.": ".model.",
        ".model.visual.": ".visual.",
        ".model.audio_tower.": ".audio_tower.",
    },
    "nested": {".model.language_model.": ".thinker.model.language_model.", ".model.": ".thinker.model."},
}


@every(["qwen2_5_omni_thinker", "qwen3_omni_moe_thinker", "llama"])
@pytest.mark.parametrize("version", list(PLACES))
def test_an_adapter_is_loaded_whatever_version_wrote_it(tmp_path: Path, name: str, version: str) -> None:
    directory = BUILDERS[name](tmp_path / "model")
    parts = tuple(load(directory).family.adapted)
    config = FinetuneConfig(lora_rank=2, adapt=parts)
    model = moved(adapted(load(directory), config, "mosi", seed=0))
    model.save(tmp_path)
    path = tmp_path / "adapter_model.safetensors"
    renamed = {}
    for key, value in load_file(path).items():
        inner = key.removeprefix("base_model.model")
        for now, then in PLACES[version].items():
            if inner.startswith(now):
                inner = then + inner.removeprefix(now)
                break
        renamed["base_model.model" + inner] = value
    save_file(renamed, path)
    again = adapted(load(directory), config, "mosi", seed=1)
    again.load(tmp_path)
    own = dict(model.named_parameters())
    for key, value in again.named_parameters():
        assert torch.equal(value, own[key]), key


def test_another_models_adapter_is_refused(tmp_path: Path) -> None:
    directory = BUILDERS["llama"](tmp_path / "model")
    model = adapted(load(directory), FinetuneConfig(lora_rank=2), "mosi", seed=0)
    model.save(tmp_path)
    path = tmp_path / "adapter_model.safetensors"
    save_file({key.replace("layers.1.", "layers.7."): value for key, value in load_file(path).items()}, path)
    with pytest.raises(RunError, match=r"adapter_model.safetensors: is no adapter of this model: 28 tensors"):
        model.load(tmp_path)


def test_names_without_their_place_stay_apart() -> None:
    assert canonical_name(
        "base_model.model.model.language_model.layers.0.self_attn.q_proj.lora_A.weight"
    ) == (canonical_name("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"))
    assert canonical_name("base_model.model.model.visual.blocks.0.attn.q") == canonical_name(
        "visual.blocks.0.attn.q"
    )
    assert canonical_name("model.audio_tower.layers.0.fc1") != canonical_name(
        "model.language_model.layers.0.fc1"
    )

"""What a step on tensors without values counts is what a step with values takes."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from finetune.dry_run import blank, step_bytes
from finetune.inputs.batch import Encoded, collate
from finetune.model import towers
from finetune.model.adapters import adapted
from finetune.model.families import Layers
from finetune.model.loading import BaseModel
from finetune.model.parts import LANGUAGE_MODEL
from finetune.model.regressor import SentimentModel
from finetune.settings import FinetuneConfig
from finetune.tower_cache.cache import TowerCache
from finetune.tower_cache.frozen_towers import FrozenTowers
from finetune.training.memory_estimate import LiveBytes, Rehearsal
from pipelines.errors import RunError
from tests.finetune.family_inputs import BUDGET, MULTIMODAL, clip, every, load
from tests.tiny_families import BUILDERS, qwen2

DEPTH, TOKENS = 28, 32
EVERYTHING = ("language", "projectors", "vision", "audio")
ATTENTION = (Layers(LANGUAGE_MODEL, r"layers\.\d+\.self_attn\.[qkvo]_proj"),)


def row(tokens: int) -> Encoded:
    return Encoded(input_ids=torch.full((tokens,), 5), position_ids=torch.arange(tokens))


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A language model of Qwen2.5-7B's size but for its vocabulary, without weights."""
    directory = qwen2(tmp_path_factory.mktemp("wide"))
    (directory / "model.safetensors").unlink()
    config = json.loads((directory / "config.json").read_text())
    width = {"hidden_size": 3584, "intermediate_size": 18944, "num_attention_heads": 28}
    depth = {"num_hidden_layers": DEPTH, "layer_types": ["full_attention"] * DEPTH}
    config |= width | depth | {"num_key_value_heads": 4}
    (directory / "config.json").write_text(json.dumps(config))
    return directory


def saved_by_a_layer(model: SentimentModel, batch: dict[str, torch.Tensor]) -> int:
    """Bytes that autograd really keeps of the second of two layers: storages, none twice, no parameters."""
    layers = model.base.model.layers
    del layers[2:]
    model.to_empty(device="cpu").train()  # memory for two layers, whatever is in it
    known = {value.untyped_storage().data_ptr() for value in [*model.parameters(), *model.buffers()]}
    kept: dict[int, torch.UntypedStorage] = {}
    before: list[int] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage  # held, so that no other comes to its address
        return tensor

    layers[1].register_forward_pre_hook(lambda *_: before.append(len(kept)))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        towers.last_hidden_state(model.base, **batch)
    return sum(storage.nbytes() for storage in list(kept.values())[before[0] :])


WIDE: dict[str, dict[str, Any]] = {
    "bfloat16": {"precision": "bfloat16"},
    "float32": {},
    "dropout": {"lora_dropout": 0.1},
    "rank 128": {"lora_rank": 128},
    "eager": {"attention": "eager"},
    "attention alone": {},
}


@pytest.mark.parametrize("name", WIDE)
def test_at_the_size_of_7b_it_is_what_autograd_keeps(wide: Path, name: str) -> None:
    config = FinetuneConfig(model=str(wide), batch_size=1, **{"precision": "float32"} | WIDE[name])

    def fresh() -> SentimentModel:
        base = blank(config)
        if name == "attention alone":
            base = replace(base, family=replace(base.family, adapted={"language": ATTENTION}))
        return adapted(base, config, "mosi", seed=0)

    measured = DEPTH * saved_by_a_layer(fresh(), collate([row(TOKENS)], 0))
    _, told = step_bytes(fresh(), config, (row(TOKENS),) * 3)
    assert told == pytest.approx(measured, rel=0.15)


def really(model: SentimentModel, run: Callable[[], Any], batch: dict[str, torch.Tensor]) -> int:
    """Bytes that something takes at most with values in all tensors."""
    counter = LiveBytes()
    for value in model.parameters():
        if value.requires_grad:
            value.grad = torch.zeros_like(value)
    for value in [*model.parameters(), *model.buffers()]:
        for tensor in (value, value.grad):
            if tensor is not None:
                counter.ignore(tensor)
    for value in batch.values():
        counter.count(value)
    with counter:
        run()
    return counter.peak


def batch_of(base: BaseModel) -> dict[str, torch.Tensor]:
    encoder = base.encoder(BUDGET, None)
    return collate([encoder(clip(1.4)), encoder(clip(0.7, 1)), encoder(clip(0.7, 2) | {"video": None})], 0)


STEPS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in BUILDERS),
    *((name, {"adapt": EVERYTHING}) for name in MULTIMODAL),
    *((name, {"gradient_checkpointing": True}) for name in (*MULTIMODAL, "qwen2")),
]


@pytest.mark.parametrize(("name", "settings"), STEPS)
def test_a_step_takes_what_it_takes_with_values(name: str, settings: dict[str, Any], tmp_path: Path) -> None:
    """Forward and backward pass, towers in it."""
    directory = BUILDERS[name](tmp_path)
    real = load(directory)
    if "adapt" in settings:
        settings = {"adapt": tuple(part for part in settings["adapt"] if part in real.family.adapted)}
    config = FinetuneConfig(model=str(directory), lora_rank=2, precision="float32", **settings)
    batch = batch_of(real)
    model = adapted(real, config, "mosi", seed=0).train()

    def run() -> None:
        model(labels=torch.zeros(3), **batch).mean().backward()

    measured = really(model, run, batch)
    rehearsal = Rehearsal(adapted(blank(config), config, "mosi", seed=0), shallow=False)
    assert rehearsal.step(batch) == pytest.approx(measured, rel=0.01)


@every(MULTIMODAL)
def test_towers_take_what_they_take_with_values(name: str, tmp_path: Path) -> None:
    directory = BUILDERS[name](tmp_path)
    config, real = FinetuneConfig(model=str(directory), precision="float32"), load(directory)
    batch = batch_of(real)
    model = adapted(real, config, "mosi", seed=0).train()
    measured = really(model, lambda: towers.encode_media(model.base, **batch), batch)
    rehearsal = Rehearsal(adapted(blank(config), config, "mosi", seed=0), shallow=True)
    made, told = rehearsal.towers(batch)
    assert told == pytest.approx(measured, rel=0.01)
    for key, value in towers.encode_media(model.base, **batch).items():
        assert value.shape == made[key].shape, key


@pytest.mark.parametrize("settings", [{}, {"gradient_checkpointing": True}])
def test_a_deep_model_is_a_straight_line(tmp_path: Path, settings: dict[str, Any]) -> None:
    directory = qwen2(tmp_path)
    path = directory / "config.json"
    depth = {"num_hidden_layers": 9, "layer_types": ["full_attention"] * 9}
    path.write_text(json.dumps(json.loads(path.read_text()) | depth))
    config = FinetuneConfig(model=str(directory), lora_rank=2, precision="float32", **settings)
    models = (adapted(blank(config), config, "mosi", seed=0) for _ in range(2))
    whole, line = (
        Rehearsal(model, shallow=shallow).step(collate([row(50)] * 2, 0))
        for model, shallow in zip(models, (False, True), strict=True)
    )
    assert line == pytest.approx(whole, rel=0.02)


def test_frozen_towers_take_what_the_largest_picture_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many clips a batch has: they are never asked about two pictures at once."""
    directory = BUILDERS["qwen2_5_vl"](tmp_path / "model")
    config, base = FinetuneConfig(model=str(directory), precision="float32"), load(directory)
    encoder, see = base.encoder(BUDGET, None), towers.encode_video
    whole = adapted(base, config, "mosi", seed=0)
    taken: list[tuple[int, int]] = []

    def counted(model: Any, patches: torch.Tensor, grids: torch.Tensor) -> list[torch.Tensor]:
        run = functools.partial(see, model, patches, grids)
        taken.append((len(grids), really(whole, run, {"patches": patches, "grids": grids})))
        return run()

    monkeypatch.setattr(towers, "encode_video", counted)
    FrozenTowers(encoder, base.thinker, TowerCache(tmp_path, "tiny")).many(
        [clip(seconds, number) for number, seconds in enumerate((0.4, 1.4, 0.7, 1.0))]
    )
    assert [pictures for pictures, _ in taken] == [1, 1, 1, 1]
    monkeypatch.undo()
    short, long = encoder(clip(0.4)), encoder(clip(1.4))
    told, _ = step_bytes(adapted(blank(config), config, "mosi", seed=0), config, (short, long, short))
    assert told == pytest.approx(max(size for _, size in taken), rel=0.01)


def test_what_depends_on_values_is_refused_in_words(tmp_path: Path) -> None:
    config = FinetuneConfig(model=str(qwen2(tmp_path)), lora_rank=2, precision="float32")
    model = adapted(blank(config), config, "mosi", seed=0)
    model.head.losses = lambda hidden, *_: hidden[: int(hidden.sum())]  # type: ignore[assignment]
    with pytest.raises(RunError, match=r"^--dry-run: the memory of a step .* depends on values"):
        Rehearsal(model, shallow=False).step(collate([row(5)], 0))

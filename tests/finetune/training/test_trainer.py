"""What must hold of the weighted loss, on a tiny model through the real trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainerCallback

from finetune.inputs.dataset import EncodedRows, EpochOrder, Selection, TrainingRows, select
from finetune.model.saved_model import build
from finetune.run import make_trainer
from finetune.settings import FinetuneConfig
from finetune.training.arguments import training_arguments
from finetune.training.validation import predict
from pipelines.store import StoreReader
from tests import tiny

Gradients = dict[str, torch.Tensor]


class Spy(TrainerCallback):
    """Notes the gradients of each optimizer step."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.model = model
        self.steps: list[Gradients] = []

    def on_pre_optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        named = self.model.named_parameters()
        self.steps.append({name: p.grad.clone() for name, p in named if p.grad is not None})


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [tiny.row(n) for n in range(4)] + [tiny.variant(n, 0.5) for n in range(4)]
    return tiny.store(tmp_path_factory.mktemp("store"), rows)


def trained(
    store: Path, thinker: Path, out: Path, chosen: Selection, **settings: Any
) -> tuple[list[Gradients], list[dict[str, float]], dict[str, torch.Tensor]]:
    """Train on chosen rows; the gradients of each step, the log, the trained parameters."""
    plain: dict[str, Any] = {
        "model": str(thinker),
        "video_fps": 10,
        "epochs": 1,
        "lora_rank": 2,
        "log_every": 1,
    }
    config = FinetuneConfig(**plain | {"max_grad_norm": 0, "warmup": 0} | settings)
    model, encoder = build(config, "mosi", seed=0)
    torch.nn.init.normal_(model.head_layer.weight, std=4.0, generator=torch.Generator().manual_seed(0))
    inputs = EncodedRows(StoreReader(store), encoder, 100)
    trainer = make_trainer(config, model, inputs, training_arguments(config, out, 0), chosen, out)
    spy = Spy(model)
    trainer.add_callback(spy)
    trainer.train()
    after = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    return spy.steps, trainer.state.log_history, after


def pick(numbers: list[int], weights: list[float], labels: list[float] | None = None) -> Selection:
    ids = [f"tiny/train/{n}" for n in numbers]
    own = labels or [tiny.row(n)["label"] for n in numbers]
    return Selection(ids=ids, labels=own, weights=weights, kinds=["original"] * len(ids))


def same(one: Gradients, other: Gradients) -> None:
    assert one.keys() == other.keys()
    assert len(one) > 10
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], rtol=1e-4, atol=1e-6 + 1e-5 * float(value.abs().max()))


def differ(one: Gradients, other: Gradients) -> bool:
    return any(not torch.allclose(value, other[name], rtol=1e-2) for name, value in one.items())


def test_weights_of_one_are_the_plain_loss(store: Path, tiny_thinker: Path, tmp_path: Path) -> None:
    chosen = pick([0, 1, 2, 3], [1, 1, 1, 1])
    _, log, _ = trained(store, tiny_thinker, tmp_path, chosen, batch_size=4, loss="l2")
    config = FinetuneConfig(model=str(tiny_thinker), video_fps=10, lora_rank=2)
    model, encoder = build(config, "mosi", seed=0)
    torch.nn.init.normal_(model.head_layer.weight, std=4.0, generator=torch.Generator().manual_seed(0))
    found = predict(model, EncodedRows(StoreReader(store), encoder, 100), chosen.ids, 4)
    plain = (((torch.tensor(found) - torch.tensor(chosen.labels)) / 3) ** 2).mean()
    assert log[0]["loss"] == pytest.approx(float(plain), rel=1e-5)


def test_accumulation_changes_nothing(store: Path, tiny_thinker: Path, tmp_path: Path) -> None:
    chosen = pick([0, 1, 2, 3], [1.0, 0.1, 0.7, 0.3])
    at_once, log, _ = trained(store, tiny_thinker, tmp_path / "a", chosen, batch_size=4)
    apart, log_apart, _ = trained(store, tiny_thinker, tmp_path / "b", chosen, batch_size=1, accumulation=4)
    same(at_once[0], apart[0])
    for name in ("loss", "mean_weight", "effective_sample_size"):
        assert log[0][name] == pytest.approx(log_apart[0][name], rel=1e-5)
    uniform, _, _ = trained(
        store, tiny_thinker, tmp_path / "c", pick([0, 1, 2, 3], [1] * 4), batch_size=1, accumulation=4
    )
    assert differ(at_once[0], uniform[0])


def test_scale_of_weights_changes_nothing(store: Path, tiny_thinker: Path, tmp_path: Path) -> None:
    weights = [1.0, 0.1, 0.7, 0.3]
    once, _, _ = trained(
        store, tiny_thinker, tmp_path / "a", pick([0, 1, 2, 3], weights), batch_size=2, accumulation=2
    )
    scaled = pick([0, 1, 2, 3], [5 * weight for weight in weights])
    again, _, _ = trained(store, tiny_thinker, tmp_path / "b", scaled, batch_size=2, accumulation=2)
    same(once[0], again[0])


def test_weight_zero_is_absent_and_weight_two_is_twice(
    store: Path, tiny_thinker: Path, tmp_path: Path
) -> None:
    with_zero, _, _ = trained(store, tiny_thinker, tmp_path / "a", pick([0, 1, 2], [1, 0, 2]), batch_size=3)
    twice, _, _ = trained(store, tiny_thinker, tmp_path / "b", pick([0, 2, 2], [1, 1, 1]), batch_size=3)
    same(with_zero[0], twice[0])


def test_a_step_of_zero_weights_does_not_step(store: Path, tiny_thinker: Path, tmp_path: Path) -> None:
    chosen = pick([0, 1], [0, 0])
    steps, _, after = trained(store, tiny_thinker, tmp_path, chosen, batch_size=2, epochs=2, weight_decay=0.5)
    assert steps == [{}, {}]
    assert float(after["head.linear.weight"].abs().max()) > 0
    fresh, _ = build(FinetuneConfig(model=str(tiny_thinker), lora_rank=2), "mosi", seed=0)
    for name, value in fresh.named_parameters():
        if value.requires_grad and "head.linear.weight" not in name:
            assert torch.equal(value, after[name]), name


def test_an_incomplete_last_step_counts_no_row_twice(store: Path, tiny_thinker: Path, tmp_path: Path) -> None:
    steps, log, _ = trained(store, tiny_thinker, tmp_path / "a", pick([0, 1, 2], [1, 1, 1]), batch_size=2)
    assert len(steps) == 2
    assert [entry["effective_sample_size"] for entry in log[:2]] == [2, 1]


def test_log_tells_kinds_and_weights(store: Path, tiny_thinker: Path, tmp_path: Path) -> None:
    chosen = select(StoreReader(store), "weighted", 0)
    _, log, _ = trained(store, tiny_thinker, tmp_path, chosen, batch_size=8)
    assert log[0]["mean_weight"] == pytest.approx(0.75)
    assert log[0]["effective_sample_size"] == pytest.approx(6**2 / 5)
    both = log[0]["loss_original"] * 4 + log[0]["loss_video"] * 2
    assert log[0]["loss"] == pytest.approx(both / 6, rel=1e-5)


def test_adapters_in_the_towers_learn_from_mixed_batches(tiny_thinker: Path, tmp_path: Path) -> None:
    rows = [tiny.row(0), tiny.row(1, video=None), tiny.row(2, audio=None)]
    store = tiny.store(tmp_path / "store", rows)
    chosen = pick([0, 1, 2], [1, 1, 1])
    adapt = ("language", "vision", "audio")
    steps, _, _ = trained(store, tiny_thinker, tmp_path / "out", chosen, batch_size=3, epochs=2, adapt=adapt)
    for tower in ("visual", "audio_tower"):
        assert any(tower in name and value.abs().max() > 0 for name, value in steps[1].items()), tower


def test_order_of_an_epoch_depends_on_seed_and_epoch_alone() -> None:
    order = EpochOrder(10, 4, seed=3)
    first = list(order)
    assert len(first) == len(order) == 12
    assert sorted(first) == list(range(12))
    assert first[10:] == [10, 11]  # fillers come last
    order.epoch = 1
    assert list(order) != first
    assert list(EpochOrder(10, 4, seed=3)) == first


def test_each_epoch_of_a_training_has_an_order_of_its_own(
    store: Path, tiny_thinker: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []
    get = TrainingRows.__getitems__

    def note(rows: TrainingRows, indices: list[int]) -> list[dict[str, Any]]:
        taken.extend(indices)
        return get(rows, indices)

    monkeypatch.setattr(TrainingRows, "__getitems__", note)
    chosen = pick([0, 1, 2, 3], [1, 1, 1, 1])
    trained(store, tiny_thinker, tmp_path, chosen, batch_size=1, accumulation=4, epochs=6)
    epochs = [tuple(taken[start : start + 4]) for start in range(0, 24, 4)]
    assert all(sorted(epoch) == [0, 1, 2, 3] for epoch in epochs)
    assert len(set(epochs)) > 2

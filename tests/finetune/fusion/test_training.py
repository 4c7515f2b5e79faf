"""A step's weights, and that training resumed is training gone straight through."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import set_seed
from torch.nn.utils import parameters_to_vector
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from finetune.divergence import Diverged
from finetune.fusion.features.arrays import FeatureSet
from finetune.fusion.settings import (
    BalanceSettings,
    Balancing,
    ConflictSettings,
    LossSettings,
    NetworkSettings,
    TrainingSettings,
)
from finetune.fusion.total_loss import Batch, batch_of, loss_parts
from finetune.fusion.training import Trainer, inputs_of, make_network, train

Precision = Literal["no", "bf16"]
SMALL = NetworkSettings(width=8, heads=2, dropout=0.1, steps=6)


def trainer(
    features: FeatureSet,
    *,
    batch_size: int = 8,
    accumulation: int = 1,
    dropout: float = 0.1,
    epochs: int = 4,
    patience: int = 10,
    method: Balancing = "conflict_penalty",
    precision: Precision = "no",
    losses: LossSettings | None = None,
    **training: Any,
) -> Trainer:
    set_seed(3)
    network = make_network(features, NetworkSettings(width=8, heads=2, dropout=dropout, steps=6))
    return Trainer(
        network,
        features,
        training=TrainingSettings(
            epochs=epochs,
            patience=patience,
            batch_size=batch_size,
            accumulation=accumulation,
            device="cpu",
            **training,
        ),
        losses=losses or LossSettings(),
        conflict=ConflictSettings(threshold=1.0, alpha=2.0),
        balance=BalanceSettings(method=method),
        accelerator=Accelerator(cpu=True, mixed_precision=precision),
        seed=3,
    )


def weights_of(found: Trainer) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in found.network.state_dict().items()}


def gradients_of(
    features: FeatureSet,
    pieces: list[list[int]],
    weights: dict[int, float] | None = None,
    scale: float = 1.0,
    precision: Precision = "no",
) -> dict[str, torch.Tensor]:
    """What the optimizer of an untrained network is given for one step over micro-batches of clips."""
    found = trainer(features, accumulation=len(pieces), dropout=0.0, precision=precision)
    batches = [batch_of(features.splits["train"], np.array(piece), torch.device("cpu")) for piece in pieces]
    for piece, batch in zip(pieces, batches, strict=True):
        given = [(weights or {}).get(row, 1 + row % 3) for row in piece]
        batch.weights.copy_(scale * torch.tensor(given))
    recorded: dict[str, torch.Tensor] = {}

    def record(*_: object) -> None:
        recorded.update({name: value.grad.clone() for name, value in found.network.named_parameters()})

    found.optimizer.optimizer.register_step_pre_hook(record)
    found.step(batches)
    return recorded


def close(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> bool:
    return all(torch.allclose(found[name], wanted[name], atol=1e-5) for name in wanted)


def test_micro_batches_of_one_are_one_batch(features: FeatureSet) -> None:
    whole = gradients_of(features, [[0, 1, 2, 3, 4, 5]])
    assert close(gradients_of(features, [[0], [1], [2], [3], [4], [5]]), whole)
    assert close(gradients_of(features, [[0, 1, 2, 3], [4, 5]]), whole)


def test_a_common_factor_of_all_weights_changes_nothing(features: FeatureSet) -> None:
    assert close(gradients_of(features, [[0, 1, 2]], scale=0.01), gradients_of(features, [[0, 1, 2]]))


def test_a_weight_of_0_is_absence(features: FeatureSet) -> None:
    absent = gradients_of(features, [[0, 2]])
    assert close(gradients_of(features, [[0, 1, 2]], {1: 0.0}), absent)
    assert not close(gradients_of(features, [[0, 1, 2]], {1: 0.1}), absent)


def test_a_step_without_weight_does_not_step(features: FeatureSet) -> None:
    found = trainer(features)
    before = weights_of(found)
    batch = batch_of(features.splits["train"], np.arange(4), torch.device("cpu"))
    batch.weights.zero_()
    assert found.step([batch]) == ({}, None)
    assert close(weights_of(found), before)


@pytest.mark.parametrize("method", get_args(Balancing))
def test_resumed_training_is_straight_training(
    features: FeatureSet, tmp_path: Path, method: Balancing
) -> None:
    straight = train(trainer(features, method=method), tmp_path / "straight.pt")
    for epochs in (1, 2):  # interrupted after the first epoch, and again after the third
        interrupted = trainer(features, method=method)
        checkpoint = tmp_path / "resumed.pt"
        if checkpoint.exists():
            interrupted.load_state_dict(torch.load(checkpoint, weights_only=True))
        for _ in range(epochs):
            interrupted.run_epoch()
        torch.save(interrupted.state_dict(), checkpoint)
    resumed = train(trainer(features, method=method), checkpoint)
    assert resumed.history == straight.history
    assert resumed.steps == straight.steps
    assert resumed.metrics == straight.metrics
    for name, value in straight.network.state_dict().items():
        assert torch.equal(resumed.network.state_dict()[name], value)


def test_steps_are_of_one_size_and_hold_each_clip_once(features: FeatureSet) -> None:
    sizes = []
    found = trainer(features, batch_size=13, epochs=1)  # 40 clips, which fill three steps and a clip

    def record(batches: list[Batch]) -> tuple[dict[str, float], None]:
        sizes.append(sum(len(batch.weights) for batch in batches))
        return {}, None

    found.step = record  # type: ignore[method-assign]
    found.run_epoch()
    assert sizes == [10, 10, 10, 10]


@pytest.mark.parametrize(("optimizer", "share"), [("sgd", 0.5), ("adamw", 1.0)])
def test_a_lasting_factor_slows_an_encoder_under_sgd_alone(
    features: FeatureSet, optimizer: str, share: float
) -> None:
    settings: dict[str, Any] = {"optimizer": optimizer, "weight_decay": 0.0, "clip_norm": 1e9}
    methods: tuple[Balancing, ...] = ("constant", "none")
    moved = []
    for method in methods:
        losses = LossSettings(statistics=0.0)
        found = trainer(features, method=method, dropout=0.0, losses=losses, **settings)
        text = found.network.encoders["text"]
        before = parameters_to_vector(text.parameters()).detach()
        batch = batch_of(features.splits["train"], np.arange(8), torch.device("cpu"))
        found.optimizer.param_groups[0]["lr"] = 1e-3  # not 0, as the schedule begins
        found.step([batch])
        moved.append(float((parameters_to_vector(text.parameters()).detach() - before).norm()))
    assert moved[0] / moved[1] == pytest.approx(share, rel=0.01)


def test_ends_early_and_keeps_the_best_epoch(features: FeatureSet, tmp_path: Path) -> None:
    found = trainer(features, epochs=12, patience=1)
    trained = train(found, tmp_path / "checkpoint.pt")
    errors = [epoch["valid_mae"] for epoch in trained.history]
    assert trained.best_epoch == int(np.argmin(errors))
    assert len(errors) in (trained.best_epoch + 2, 12)
    assert trained.metrics["valid"]["MAE"] == errors[trained.best_epoch]


def test_the_penalty_changes_training_and_its_absence_is_watched(features: FeatureSet) -> None:
    with_penalty, without = trainer(features, epochs=2), trainer(features, epochs=2, method="none")
    for found in (with_penalty, without):
        found.run_epoch()
    assert min(with_penalty.history[0]["factors"].values()) < 1
    assert set(without.history[0]["factors"].values()) == {1.0}
    assert without.history[0]["conflict_rate"] > 0
    assert not close(weights_of(with_penalty), weights_of(without))


def test_loss_parts_are_each_clips_own(features: FeatureSet) -> None:
    torch.manual_seed(0)
    network = make_network(features, SMALL).eval()
    clips = features.splits["train"]
    whole = batch_of(clips, np.arange(6), torch.device("cpu"))
    parts = loss_parts(network(whole.values, whole.masks), whole)
    assert set(parts) == {"task", "auxiliary", "reconstruction", "statistics", "diversity"}
    for row in range(6):
        one = batch_of(clips, np.array([row]), torch.device("cpu"))
        alone = loss_parts(network(one.values, one.masks), one)
        for name, values in parts.items():
            assert values.shape == (6,)
            torch.testing.assert_close(alone[name][0], values[row])


def test_strides_bring_long_clips_to_the_wanted_steps(features: FeatureSet) -> None:
    strides = {name: value.stride for name, value in inputs_of(features, 5).items()}
    assert strides == {"text": 1, "audio": 3, "video": 2}


def test_a_modality_that_a_clip_lacks_adds_no_loss(features: FeatureSet) -> None:
    torch.manual_seed(0)
    network = make_network(features, SMALL).eval()
    batch = batch_of(features.splits["train"], np.arange(4), torch.device("cpu"))
    for mask in batch.masks.values():
        mask[1] = False
    parts = loss_parts(network(batch.values, batch.masks), batch)
    for name in ("auxiliary", "reconstruction", "statistics", "diversity"):
        assert parts[name][1] == 0, name
        assert (parts[name][[0, 2, 3]] > 0).all(), name
    assert parts["task"][1] > 0


def test_mixed_precision_has_nearly_the_same_gradients(features: FeatureSet) -> None:
    full = gradients_of(features, [[0, 1, 2, 3]])
    AcceleratorState._reset_state(reset_partial_state=True)
    mixed = gradients_of(features, [[0, 1, 2, 3]], precision="bf16")
    flat = [torch.cat([value.flatten() for value in found.values()]) for found in (full, mixed)]
    assert all(value.dtype == torch.float32 for value in mixed.values())
    assert not torch.equal(*flat)
    assert torch.cosine_similarity(*flat, dim=0) > 0.99


@pytest.mark.parametrize("method", get_args(Balancing))
@pytest.mark.parametrize("accumulation", [1, 2])
def test_every_method_trains_in_mixed_precision_nearly_as_without(
    features: FeatureSet, method: Balancing, accumulation: int
) -> None:
    losses = []
    for precision in ("no", "bf16"):
        AcceleratorState._reset_state(reset_partial_state=True)
        found = trainer(features, method=method, accumulation=accumulation, dropout=0.0, precision=precision)
        while not found.ended:
            found.run_epoch()
        assert all(value.dtype == torch.float32 for value in found.network.state_dict().values())
        losses.append([epoch["losses"]["task"] for epoch in found.history])
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
    assert losses[1] != losses[0]


class NoFloat64(TorchDispatchMode):
    """As on MPS, nothing is computed in float64."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        tensors = [each for each in tree_leaves(found) if isinstance(each, torch.Tensor)]
        assert all(each.dtype != torch.float64 for each in tensors), f"{func} made a tensor in float64"
        return found


@pytest.mark.parametrize("method", get_args(Balancing))
def test_a_device_without_float64_is_asked_for_none(
    features: FeatureSet, monkeypatch: pytest.MonkeyPatch, method: Balancing
) -> None:
    """And trains as others do: the device is the CPU, which is taken for one of MPS."""
    usual = trainer(features, method=method)
    usual.run_epoch()
    for module in ("conflict", "balancing.observation", "training"):
        monkeypatch.setattr(f"finetune.fusion.{module}.summing_dtype", lambda device: torch.float32)
    single = trainer(features, method=method)
    with NoFloat64():
        single.run_epoch()
    for name, value in weights_of(usual).items():
        torch.testing.assert_close(weights_of(single)[name], value, rtol=1e-3, atol=1e-4)


def test_a_loss_that_is_not_finite_ends_the_training_and_names_the_row(
    features: FeatureSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = features.splits["train"].ids[5]
    found = trainer(features)
    found.run_epoch()
    torch.save(found.state_dict(), tmp_path / "checkpoint.pt")
    before = weights_of(found)
    own = loss_parts

    def parts(output: Any, batch: Batch, names: Any) -> Any:
        made = own(output, batch, names)
        poison = torch.tensor([float("inf") if row == lost else 0.0 for row in batch.ids])
        return made | {"task": made["task"] + poison}

    monkeypatch.setattr("finetune.fusion.training.loss_parts", parts)
    message = rf"^fusion: the loss is not finite in epoch 1, with the row {re.escape(lost)};.*is of the epoch"
    with pytest.raises(Diverged, match=message):
        train(trainer(features), tmp_path / "checkpoint.pt")
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["network"]
    assert all(torch.equal(value, before[name]) for name, value in saved.items())


def test_clips_of_weight_zero_are_not_computed(features: FeatureSet) -> None:
    given = features.splits["train"]
    weights = np.where(np.arange(len(given)) < 3, 0.5, 0.0).astype(np.float32)
    weighted = replace(features, splits=features.splits | {"train": replace(given, weights=weights)})
    found = trainer(weighted, batch_size=1, accumulation=len(given))
    (step,) = found._steps()
    assert {row for batch in step for row in batch.ids} == set(given.ids[:3])
    assert sum(float(batch.weights.sum()) for batch in step) == pytest.approx(1.5)


def test_weights_that_overflow_end_the_training(features: FeatureSet, tmp_path: Path) -> None:
    with pytest.raises(Diverged, match=r"^fusion: .* lower fusion.training.learning_rate .*; there is no ch"):
        train(trainer(features, learning_rate=1e30, weight_decay=1e15), tmp_path / "checkpoint.pt")
    assert not (tmp_path / "checkpoint.pt").exists()

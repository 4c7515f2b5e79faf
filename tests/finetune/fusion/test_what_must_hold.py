"""What the penalty and the statistical loss promise, on the network and the trainer as they are."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed

from finetune.fusion.features.arrays import FeatureSet
from finetune.fusion.features.mmsa_pickle import from_pickle
from finetune.fusion.settings import (
    BalanceSettings,
    Balancing,
    ConflictSettings,
    LossSettings,
    NetworkSettings,
    TrainingSettings,
)
from finetune.fusion.total_loss import batch_of, loss_parts
from finetune.fusion.training import Trainer, make_network
from finetune.gradient_norms import factors
from finetune.objective import weighted_share
from tests.finetune.fusion.made import mmsa_content, write

SCALING: tuple[Balancing, ...] = ("conflict_penalty", "cggm", "constant", "ogm_ge")
CPU = torch.device("cpu")


def trainer(
    features: FeatureSet,
    method: Balancing = "conflict_penalty",
    *,
    accumulation: int = 1,
    window: tuple[int, int | None] = (0, None),
) -> Trainer:
    set_seed(3)
    start, end = window
    return Trainer(
        make_network(features, NetworkSettings(width=8, heads=2, dropout=0.0, steps=6)),
        features,
        training=TrainingSettings(
            epochs=3, batch_size=8, accumulation=accumulation, clip_norm=1e9, device="cpu"
        ),
        losses=LossSettings(statistics=5.0),
        conflict=ConflictSettings(threshold=1.0, alpha=2.0, start_epoch=start, end_epoch=end),
        balance=BalanceSettings(method=method),
        accelerator=Accelerator(cpu=True),
        seed=3,
    )


def encoder_gradients(found: Trainer, parts: tuple[str, ...], rows: np.ndarray) -> dict[str, torch.Tensor]:
    """By modality, of some parts of the loss, without any balance."""
    batch = batch_of(found.features.splits["train"], rows, CPU)
    losses = loss_parts(found.network(batch.values, batch.masks), batch)
    total = batch.weights.sum()
    whole = torch.stack(
        [found.shares[name] * weighted_share(losses[name], batch.weights, total) for name in parts]
    )
    return {
        name: torch.cat(
            [
                torch.zeros(each.numel()) if gradient is None else gradient.flatten()
                for each, gradient in zip(
                    parameters,
                    torch.autograd.grad(whole.sum(), parameters, retain_graph=True, allow_unused=True),
                    strict=True,
                )
            ]
        )
        for name, parameters in found.network.encoder_parameters().items()
    }


def stepped(found: Trainer, pieces: list[np.ndarray]) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
    """By modality, the gradients that the optimizer gets, and the step's factors."""
    recorded: dict[str, torch.Tensor] = {}

    def record(*_: object) -> None:
        for name, parameters in found.network.encoder_parameters().items():
            recorded[name] = torch.cat([each.grad.flatten().clone() for each in parameters])

    found.optimizer.optimizer.register_step_pre_hook(record)
    _, conflict = found.step([batch_of(found.features.splits["train"], piece, CPU) for piece in pieces])
    assert conflict is not None
    return recorded, conflict.factors


@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("method", SCALING)
def test_gradients_of_the_statistical_loss_are_never_scaled(
    features: FeatureSet, method: Balancing, accumulation: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    zeros = torch.zeros
    found = trainer(features, method, accumulation=accumulation)
    monkeypatch.setattr(torch, "randn", lambda shape, generator: zeros(shape))  # OGM-GE without its noise
    rows = np.arange(8)
    free = encoder_gradients(found, ("task", "auxiliary", "reconstruction", "diversity"), rows)
    exempt = encoder_gradients(found, ("statistics",), rows)
    given, scaled = stepped(found, np.array_split(rows, accumulation))
    assert min(scaled.values()) < 0.95
    for name, factor in scaled.items():
        wanted = factor * free[name] + exempt[name]
        torch.testing.assert_close(given[name], wanted, atol=1e-5, rtol=1e-4)
        if factor < 1:
            assert exempt[name].norm() > 0.1 * wanted.norm()


@pytest.mark.parametrize("window", [(3, None), (0, 0), (50, 60)])
def test_outside_its_epochs_training_is_bitwise_that_without(
    features: FeatureSet, window: tuple[int, int | None]
) -> None:
    outside, without = trainer(features, window=window), trainer(features, "none")
    acting = trainer(features)
    for found in (outside, without, acting):
        while not found.ended:
            found.run_epoch()
    for name, value in without.network.state_dict().items():
        assert torch.equal(outside.network.state_dict()[name], value), name
    assert outside.history == without.history
    assert acting.history != without.history


def test_factors_of_equal_norms_are_exactly_one() -> None:
    for ratio in (0.1, 0.3, 1 / 3, 1.0):
        found = factors(dict.fromkeys(("text", "audio", "video"), ratio), 1.0, 0.5, 0.1)
        assert list(found.values()) == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("floor", [0.01, 0.1, 0.7, 1.0])
def test_the_factor_never_rises_with_the_ratio_and_never_falls_under_the_floor(floor: float) -> None:
    found = [
        factors({"text": ratio, "audio": 0.5}, 2.0, 0.5, floor)["text"]
        for ratio in [*np.linspace(0.5, 40, 400), 1e12, float("inf")]
    ]
    assert all(later <= earlier for earlier, later in itertools.pairwise(found))
    assert min(found) == floor
    assert max(found) == 1.0


def test_a_mask_hides_what_it_hides_from_the_statistical_loss_of_the_network(features: FeatureSet) -> None:
    found = trainer(features)
    batch = batch_of(features.splits["train"], np.arange(6), CPU)
    with torch.no_grad():
        before = loss_parts(found.network(batch.values, batch.masks), batch)["statistics"]
        for name, values in batch.values.items():
            values[~batch.masks[name]] = 1e3
        after = loss_parts(found.network(batch.values, batch.masks), batch)["statistics"]
    torch.testing.assert_close(after, before)


def test_features_that_stand_still_train(features: FeatureSet, tmp_path: Path) -> None:
    content = mmsa_content()
    for split in content.values():
        split["audio"][:] = 0.25
    still = from_pickle(write(tmp_path / "still.pkl", content), ("text", "audio", "video"))
    found = trainer(still)
    found.run_epoch()
    assert all(value.isfinite().all() for value in found.network.state_dict().values())
    assert np.isfinite(found.history[0]["losses"]["statistics"])

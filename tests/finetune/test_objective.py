"""The weighted mean and the weights that it refuses."""

from __future__ import annotations

import pytest
import torch

from finetune.objective import (
    ROW_LOSSES,
    WeightError,
    check_weights,
    effective_sample_size,
    weighted_mean,
    weighted_share,
)

LOSSES = torch.tensor([2.0, 1.0, 3.0, 0.5])
WEIGHTS = torch.tensor([1.0, 0.1, 1.0, 0.1])


def test_known_value() -> None:
    assert weighted_mean(LOSSES, WEIGHTS).item() == pytest.approx(5.15 / 2.2)


def test_equal_weights_give_the_plain_mean() -> None:
    assert weighted_mean(LOSSES, torch.full((4,), 0.3)).item() == pytest.approx(LOSSES.mean().item())


def test_scale_of_weights_does_not_matter() -> None:
    assert weighted_mean(LOSSES, 7 * WEIGHTS).item() == pytest.approx(weighted_mean(LOSSES, WEIGHTS).item())


def test_weight_two_is_the_row_twice() -> None:
    twice = weighted_mean(torch.tensor([2.0, 2.0, 1.0]), torch.ones(3))
    assert weighted_mean(torch.tensor([2.0, 1.0]), torch.tensor([2.0, 1.0])).item() == pytest.approx(
        twice.item()
    )


@pytest.mark.parametrize("loss", [5.0, float("inf"), float("nan")])
def test_weight_zero_is_absent(loss: float) -> None:
    losses = torch.tensor([2.0, loss], requires_grad=True)
    mean = weighted_mean(losses, torch.tensor([1.0, 0.0]))
    mean.backward()
    assert mean.item() == 2.0
    assert losses.grad is not None
    assert losses.grad.tolist() == [1.0, 0.0]


def test_micro_batches_of_one_keep_their_weights() -> None:
    total = WEIGHTS.sum()
    parts = [weighted_share(LOSSES[i : i + 1], WEIGHTS[i : i + 1], total) for i in range(4)]
    assert sum(part.item() for part in parts) == pytest.approx(weighted_mean(LOSSES, WEIGHTS).item())


def test_all_zero_weights_give_zero() -> None:
    assert weighted_mean(LOSSES, torch.zeros(4)).item() == 0.0


@pytest.mark.parametrize(
    ("weight", "told"), [(None, "no weight"), (float("nan"), "nan"), (-0.1, "-0.1"), (float("inf"), "inf")]
)
def test_bad_weights_are_refused_by_id(weight: float | None, told: str) -> None:
    with pytest.raises(WeightError, match=rf"^b: .*{told}"):
        check_weights("store", ["a", "b"], [0.0, weight])


def test_effective_sample_size() -> None:
    assert effective_sample_size(torch.ones(7)) == pytest.approx(7)
    assert effective_sample_size(torch.tensor([1.0, 0.0, 0.0])) == pytest.approx(1)
    assert effective_sample_size(torch.zeros(3)) == 0


@pytest.mark.parametrize("name", ROW_LOSSES)
def test_row_losses_are_zero_only_at_the_label(name: str) -> None:
    found = ROW_LOSSES[name](torch.tensor([0.5, 0.9]), torch.tensor([0.5, 0.5]))  # type: ignore[index]
    assert found[0] == 0
    assert found[1] > 0

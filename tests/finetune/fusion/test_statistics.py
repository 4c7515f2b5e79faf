"""The statistical loss: its closed form, and that padding and stillness do it no harm."""

from __future__ import annotations

import pytest
import torch

from finetune.fusion.statistics import SMALLEST_DEVIATION, masked_statistics, statistical_loss


@pytest.fixture
def values() -> torch.Tensor:
    return torch.randn(4, 9, 5, generator=torch.Generator().manual_seed(1))


def prefix(lengths: list[int], steps: int) -> torch.Tensor:
    return torch.arange(steps) < torch.tensor(lengths)[:, None]


def test_is_zero_for_exact_statistics(values: torch.Tensor) -> None:
    mask = prefix([9, 4, 1, 7], 9)
    mean, log_deviation = masked_statistics(values, mask)
    assert torch.equal(statistical_loss(mean, log_deviation, values, mask), torch.zeros(4))


def test_equals_its_formula(values: torch.Tensor) -> None:
    mean, log_deviation = torch.randn(4, 5), torch.randn(4, 5)
    wanted = ((mean - values.mean(1)) ** 2).sum(1) / 5
    wanted = wanted + ((log_deviation - values.std(1, correction=0).log()) ** 2).sum(1) / 5
    found = statistical_loss(mean, log_deviation, values, torch.ones(4, 9, dtype=torch.bool))
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("junk", [0.0, 1e6, float("nan"), float("inf")])
def test_is_blind_to_padding(values: torch.Tensor, junk: float) -> None:
    lengths = [9, 4, 1, 7]
    mean, log_deviation = torch.randn(4, 5), torch.randn(4, 5)
    alone = [
        statistical_loss(mean[i : i + 1], log_deviation[i : i + 1], values[i : i + 1, :n], prefix([n], n))
        for i, n in enumerate(lengths)
    ]
    padded = torch.cat([values, torch.zeros(4, 3, 5)], dim=1)
    mask = prefix(lengths, 12)
    padded[~mask] = junk
    torch.testing.assert_close(statistical_loss(mean, log_deviation, padded, mask), torch.cat(alone))


def test_zero_variance_is_finite_with_finite_gradients() -> None:
    still = torch.full((2, 6, 3), 0.7)
    mean, log_deviation = torch.zeros(2, 3, requires_grad=True), torch.zeros(2, 3, requires_grad=True)
    loss = statistical_loss(mean, log_deviation, still, prefix([6, 1], 6))
    loss.sum().backward()
    assert loss.isfinite().all()
    assert mean.grad is not None
    assert mean.grad.isfinite().all()
    _, log_still = masked_statistics(still, prefix([6, 1], 6))
    torch.testing.assert_close(log_still.exp(), torch.full((2, 3), SMALLEST_DEVIATION))


def test_a_row_without_input_costs_nothing(values: torch.Tensor) -> None:
    mask = prefix([9, 0, 3, 0], 9)
    loss = statistical_loss(torch.ones(4, 5), torch.ones(4, 5), values, mask)
    assert loss[[1, 3]].tolist() == [0.0, 0.0]
    assert (loss[[0, 2]] > 0).all()


def test_gives_the_input_no_gradient(values: torch.Tensor) -> None:
    source = values.clone().requires_grad_()
    mean = torch.zeros(4, 5, requires_grad=True)
    statistical_loss(mean, torch.zeros(4, 5), source, torch.ones(4, 9, dtype=torch.bool)).sum().backward()
    assert source.grad is None
    assert mean.grad is not None


def test_names_shapes_that_do_not_fit(values: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"mean \(4, 3\).* do not fit values \(4, 9, 5\)"):
        statistical_loss(torch.zeros(4, 3), torch.zeros(4, 5), values, torch.ones(4, 9, dtype=torch.bool))

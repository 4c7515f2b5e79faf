"""The weighted loss: sum of weight times loss over sum of weights.

The denominator is that of the whole optimizer step, over every micro-batch on every rank: per micro-batch,
the weights of small batches would cancel (Σ w ℓ / Σ w = ℓ for a batch of one).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from finetune.settings import RowLoss
from pipelines.errors import RunError

# A sample's own loss, from predictions and labels in units of half the scale's range, each (B,).
ROW_LOSSES: dict[RowLoss, Callable[[Tensor, Tensor], Tensor]] = {
    "l1": lambda predictions, labels: (predictions - labels).abs(),
    "l2": lambda predictions, labels: (predictions - labels) ** 2,
    "huber": lambda predictions, labels: torch.nn.functional.huber_loss(
        predictions, labels, reduction="none", delta=0.2
    ),
}


class WeightError(RunError):
    """Weights that cannot be used. The message names the row, or the store or file."""


def weighted_mean(losses: Tensor, weights: Tensor) -> Tensor:
    """Σ w ℓ / Σ w.

    Args:
        losses: Each sample's own mean loss, (N,).
        weights: Their weights, at least 0, (N,).

    Returns:
        A scalar; 0, with a gradient of 0, where all weights are 0.

    References:
        DaQ-MSA (arXiv:2601.06870) weights variants by their quality; the formula is ours.
    """
    return weighted_share(losses, weights, weights.sum())


def weighted_share(losses: Tensor, weights: Tensor, total: Tensor) -> Tensor:
    """Σ w ℓ / total: a micro-batch's part of the weighted mean of its optimizer step.

    Args:
        losses: Each sample's own mean loss, (n,).
        weights: Their weights, (n,).
        total: Sum of the weights of all samples of the step, a scalar.
    """
    weights = weights.to(losses.dtype)
    # A loss with weight 0 must not count even if it is infinite or NaN.
    counted = torch.where(weights > 0, losses, torch.zeros_like(losses))
    # `where` runs on the device: reading the total here would wait for it in each micro-batch.
    return (weights * counted).sum() / torch.where(total > 0, total, torch.ones_like(total)).to(losses.dtype)


def check_weights(where: str | Path, ids: Iterable[str], weights: Sequence[float | None]) -> None:
    """Refuse training rows of which a weight is missing, not finite or negative, or all weights are 0.

    Raises:
        WeightError: At the first such weight, with the row's id; with `where`, the rows' store or file, if
            there is nothing to learn from.
    """
    for row_id, weight in zip(ids, weights, strict=True):
        if weight is None or not math.isfinite(weight) or weight < 0:
            problem = "no weight" if weight is None else f"the weight {weight}"
            raise WeightError(
                f"{row_id}: {problem}; training takes a finite weight of at least 0 on every row:"
                " run `python -m score` on the store, or set finetune.arm to uniform"
            )
    if weights and not any(weights):
        raise WeightError(
            f"{where}: all {len(weights)} training rows have the weight 0, so nothing can be learned from"
            " them; score them again, or train on others"
        )


def effective_sample_size(weights: Tensor) -> float:
    """(Σ w)² / Σ w²: the equivalent number of rows of equal weight; 0 if all weights are 0."""
    squares = (weights**2).sum()
    return float(weights.sum() ** 2 / squares) if squares > 0 else 0.0

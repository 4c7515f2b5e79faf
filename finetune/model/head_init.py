"""Where the regression head starts: a ridge regression on the untuned model's last token.

Fine-tuning from a fitted read-out distorts a model's features less than from a random one (Kumar et
al. 2022, arXiv:2202.10054), and gives a baseline worth the name: what the untuned model knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from finetune.model.fsdp import like
from finetune.model.heads import Regression
from pipelines.errors import RunError

if TYPE_CHECKING:
    from finetune.model.regressor import Rater

# Penalties tried, in units of the features' mean variance times the number of rows.
PENALTIES = tuple(10.0**power for power in range(-4, 4))


def ridge(features: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Ridge regression with the penalty that predicts left-out rows best.

    Args:
        features: (N, d).
        targets: (N,).

    Returns:
        Weights (d,) and intercept (), float32. With one row, or features that are all alike, the
        weights are 0 and the intercept is the mean.

    References:
        Leave-one-out residuals in closed form: residual / (1 - leverage).
    """
    x, y = features.double(), targets.double()
    middle, mean = x.mean(0), y.mean()
    left, spread, right = torch.linalg.svd(x - middle, full_matrices=False)
    scale = (spread**2).sum() / x.shape[1]
    if len(y) < 2 or scale == 0:
        return torch.zeros(x.shape[1]), mean.float()
    projected = left.T @ (y - mean)
    errors = []
    for penalty in PENALTIES:
        shrunk = spread**2 / (spread**2 + penalty * scale)
        residuals = y - mean - left @ (shrunk * projected)
        leverage = (left**2 @ shrunk) + 1 / len(y)
        errors.append(float(((residuals / (1 - leverage).clamp(min=1e-6)) ** 2).mean()))
    penalty = PENALTIES[errors.index(min(errors))]
    weights = right.T @ (spread / (spread**2 + penalty * scale) * projected)
    return weights.float(), (mean - middle @ weights).float()


def start_head(model: Rater, features: torch.Tensor, labels: Sequence[float]) -> None:
    """Set a regressor's head to the ridge regression of labels on its features.

    Args:
        model: Is changed.
        features: Of the training originals, (N, d).
        labels: Theirs, on the labels' scale.

    Raises:
        RunError: If there is no row.
    """
    if len(features) == 0:
        raise RunError("finetune.head_start: ridge needs originals in the split train; take zero")
    assert isinstance(model.readout, Regression)
    scale, head = model.readout.scale, model.readout.head
    targets = (torch.tensor(labels) - scale.middle) / scale.half_range
    weights, intercept = ridge(features, targets)
    with torch.no_grad():
        # It reads features over their width.
        head.weight.copy_(like(head.weight, weights[None] * features.shape[1]))
        head.bias.copy_(like(head.bias, intercept[None]))

"""Initial regression head: a ridge regression on the untuned model's last token.

Fine-tuning from a fitted head distorts a model's features less than from a random one (Kumar et al. 2022,
arXiv:2202.10054), and gives a serious baseline: what the untuned model knows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from finetune.model.fsdp import shard_like
from finetune.model.heads import Regression
from finetune.model.regressor import SentimentModel
from pipelines.errors import RunError
from pipelines.ridge import Decomposed

# Penalties tried, in units of the features' mean variance times the number of rows.
PENALTIES = tuple(10.0**power for power in range(-4, 4))
# Added to 1 - leverage, which is almost 0 where there are more features than rows.
LEAST_KEPT = 1e-6


def ridge(features: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Ridge regression with the penalty that predicts left-out rows best.

    Args:
        features: (N, d).
        targets: (N,).

    Returns:
        Weights (d,) and intercept (), float32. With one row, or features that are all alike, the
        weights are 0 and the intercept is the mean.
    """
    x, y = features.double().numpy(force=True), targets.double().numpy(force=True)
    rows = Decomposed(x, y)
    scale = (rows.spread**2).sum() / x.shape[1]
    if len(y) < 2 or scale == 0:
        return torch.zeros(x.shape[1]), torch.tensor(rows.level)
    folds = np.arange(len(y))[:, None]  # each row is left out on its own
    penalty = min(PENALTIES, key=lambda each: rows.left_out_error(each * scale, folds, LEAST_KEPT))
    weights, intercept = rows.fit(penalty * scale)
    return torch.from_numpy(weights).float(), torch.tensor(intercept)


def start_head(model: SentimentModel, features: Tensor, labels: Sequence[float]) -> None:
    """Set a model's regression head, in place, to the ridge regression of labels on features, (N, d).

    Raises:
        RunError: If there is no row.
    """
    if len(features) == 0:
        raise RunError("finetune.head_start: ridge needs originals in the split train; take zero")
    assert isinstance(model.head, Regression)
    scale, linear = model.head.scale, model.head.linear
    weights, intercept = ridge(features, (torch.tensor(labels) - scale.middle) / scale.half_range)
    with torch.no_grad():
        # The head divides features by their width.
        linear.weight.copy_(shard_like(linear.weight, weights[None] * features.shape[1]))
        linear.bias.copy_(shard_like(linear.bias, intercept[None]))

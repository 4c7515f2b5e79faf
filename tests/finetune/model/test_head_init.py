"""The ridge regression that the head starts as."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from finetune.inputs.batch import collate
from finetune.model.head_init import PENALTIES, ridge, start_head
from finetune.model.saved_model import build
from finetune.settings import FinetuneConfig
from tests import tiny


def drawn(rows: int, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(rows, 6, generator=generator) * torch.tensor([1, 2, 3, 1, 0.5, 1]) + 5
    targets = features @ torch.tensor([0.5, -1, 0.2, 0, 1, 0]) - 2
    return features, targets + noise * torch.randn(rows, generator=generator)


def test_it_finds_a_linear_rule() -> None:
    features, targets = drawn(50, noise=0)
    weights, intercept = ridge(features, targets)
    torch.testing.assert_close(features @ weights + intercept, targets, rtol=1e-2, atol=1e-2)


def test_noise_alone_is_shrunk_to_the_mean() -> None:
    features = torch.randn(30, 20, generator=torch.Generator().manual_seed(1))
    targets = torch.randn(30, generator=torch.Generator().manual_seed(2))
    weights, intercept = ridge(features, targets)
    assert float((features @ weights + intercept - targets.mean()).std()) < 0.2 * float(targets.std())


def test_the_penalty_is_the_best_by_leaving_rows_out() -> None:
    """Against refitting without each row, for each penalty."""
    features, targets = (values.double().numpy() for values in drawn(12, noise=1.0))
    scale = ((features - features.mean(0)) ** 2).sum() / features.shape[1]

    def fit(x: np.ndarray, y: np.ndarray, penalty: float) -> tuple[np.ndarray, float]:
        centred = x - x.mean(0)
        gram = centred.T @ centred + penalty * scale * np.eye(x.shape[1])
        weights = np.linalg.solve(gram, centred.T @ (y - y.mean()))
        return weights, y.mean() - x.mean(0) @ weights

    def error(penalty: float) -> float:
        others = [np.arange(12) != row for row in range(12)]
        fits = [fit(features[keep], targets[keep], penalty) for keep in others]
        return float(np.mean([(features[i] @ w + b - targets[i]) ** 2 for i, (w, b) in enumerate(fits)]))

    best = min(PENALTIES, key=error)
    weights, _ = ridge(torch.from_numpy(features), torch.from_numpy(targets))
    np.testing.assert_allclose(weights.numpy(), fit(features, targets, best)[0], rtol=1e-4)


def test_one_row_gives_its_label() -> None:
    weights, intercept = ridge(torch.ones(1, 4), torch.tensor([0.7]))
    assert float(weights.abs().max()) == 0
    assert float(intercept) == np.float32(0.7)


def test_a_started_head_predicts_what_the_regression_does(tiny_thinker: Path) -> None:
    model, encoder = build(FinetuneConfig(model=str(tiny_thinker), lora_rank=2), "mosi", seed=0)
    batch = collate([encoder(tiny.row(n)) for n in range(4)], 0)
    labels = [-3.0, 1.0, 2.0, 0.5]
    with torch.no_grad():
        features = model.features(**batch)
        start_head(model, features, labels)
        weights, intercept = ridge(features, torch.tensor(labels))
        torch.testing.assert_close(model(**batch), features @ weights + intercept, rtol=1e-3, atol=1e-3)

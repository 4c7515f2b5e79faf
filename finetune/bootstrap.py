"""The metrics of `finetune.msa_metrics` on thousands of resamples of the same rows at once.

Every metric is made of sums over rows. A resample counts how often each unit, a row or a group of
rows, was drawn; the counts of all resamples times the sums within each unit give all metrics.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from finetune.msa_metrics import Definition, Grading, Score

CHUNK = 500  # resamples that are computed at once

# Of columns (N, K), their sums over the rows of each resample, (B, K).
Sums = Callable[[np.ndarray], np.ndarray]


def draws(units: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each unit is drawn in each resample, in chunks (B, U)."""
    rng = np.random.default_rng(seed)
    for start in range(0, resamples, CHUNK):
        size = min(CHUNK, resamples - start)
        yield rng.multinomial(units, np.full(units, 1 / units), size=size).astype(np.float64)


def drawn_units(groups: Sequence[str]) -> tuple[str, np.ndarray]:
    """What is drawn, and the number of each row's unit, (N,).

    Groups where any has several rows; rows where each is a group of its own, or all are one.
    """
    names, numbers = np.unique(np.array(groups), return_inverse=True)
    if 1 < len(names) < len(groups):
        return "group", numbers
    return "row", np.arange(len(groups))


def metrics_of_draws(
    definition: Definition, predictions: np.ndarray, labels: np.ndarray, units: np.ndarray, counts: np.ndarray
) -> dict[str, np.ndarray]:
    """The metrics of many resamples at once: every one is made of sums over rows.

    Args:
        definition: Of the metrics.
        predictions: (N,).
        labels: (N,).
        units: The number of each row's unit, (N,), below U.
        counts: How often each unit was drawn, (B, U).

    Returns:
        (B,) by metric, not rounded; NaN where a metric has no value.
    """
    found, wanted = definition.clipped(predictions), definition.clipped(labels)

    def sums(columns: np.ndarray) -> np.ndarray:
        by_unit = np.zeros((counts.shape[1], columns.shape[1]))
        np.add.at(by_unit, units, columns)
        return counts @ by_unit  # (B, U) x (U, K)

    values: dict[str, np.ndarray] = {}
    with np.errstate(divide="ignore", invalid="ignore"):
        for grading in definition.gradings:
            values |= _graded(grading, found, wanted, sums)
        distances = _distances(found.astype(np.float64), wanted.astype(np.float64), sums)
    return values | {name: distances[name] for name in definition.distances}


def _graded(grading: Grading, found: np.ndarray, wanted: np.ndarray, sums: Sums) -> dict[str, np.ndarray]:
    """A grading's scores, (B,) by name."""
    counted = grading.counted(wanted)
    said, is_so = grading.classify(found), grading.classify(wanted)
    kinds = np.unique(is_so)
    both, of_said, of_labels = (
        sums(columns & counted[:, None])  # (B, kinds)
        for columns in (
            (said[:, None] == kinds) & (is_so[:, None] == kinds),
            said[:, None] == kinds,
            is_so[:, None] == kinds,
        )
    )
    share = of_labels / of_labels.sum(1, keepdims=True)
    scores: dict[Score, np.ndarray] = {
        "accuracy": both.sum(1) / of_labels.sum(1),
        "precision": (share * _ratio(both, of_said)).sum(1),
        "recall": (share * _ratio(both, of_labels)).sum(1),
        "f1": (share * _ratio(2 * both, of_said + of_labels)).sum(1),
    }
    return {name: scores[score] for score, name in grading.names.items()}


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """0 where both are 0."""
    return np.where(below > 0, above / below, 0.0)


def _distances(found: np.ndarray, wanted: np.ndarray, sums: Sums) -> dict[str, np.ndarray]:
    x, y = found - found.mean(), wanted - wanted.mean()  # so that the sums of squares lose no digits
    columns = np.stack([np.ones_like(x), np.abs(found - wanted), x, y, x * x, y * y, x * y], axis=1)
    rows, distance, *moments = sums(columns).T
    mean_x, mean_y, xx, yy, xy = (moment / rows for moment in moments)
    spread_x, spread_y = _spread(xx, mean_x), _spread(yy, mean_y)
    return {"MAE": distance / rows, "Corr": (xy - mean_x * mean_y) / np.sqrt(spread_x * spread_y)}


def _spread(squares: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Variances; NaN where all values are one but for rounding."""
    spread = squares - mean**2
    return np.where(spread > 1e-12 * np.maximum(squares, 1e-12), spread, np.nan)

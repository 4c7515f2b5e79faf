"""Whether one model does better than another: a paired bootstrap over the rows that both rated.

    python -m finetune.comparison A/predictions.parquet B/predictions.parquet

`daq-msa evaluate --against` does the same. Both models are measured on the same 10,000 resamples;
the interval holds the middle 95 % of the differences, and the p-value is twice the share of them on
the rarer side of 0. Where a group (speaker, source video) has several rows, whole groups are drawn:
rows of one speaker are alike, and drawn one by one they would pass for more evidence than they are.
With few groups, some 20 or less, such intervals are too narrow.

References:
    Efron & Tibshirani 1993, An Introduction to the Bootstrap, chapters 13 and 16; Davison & Hinkley
    1997, section 3.8 for groups, section 4.2 for counting the sample itself into the p-value.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from finetune.inputs.scales import middle_if_unparsable
from finetune.msa_metrics import Definition, Grading, Score, definition_of
from pipelines.atomic import write_json
from pipelines.errors import RunError, UsageError, call, reason
from pipelines.store_files.parquet import read_table

RESAMPLES = 10_000
CHUNK = 500
"""Resamples that are computed at once."""
SEED = 1111
CONFIDENCE = 0.95
FILE = "comparison.json"
COLUMNS = ("id", "group", "corpus", "scale", "label", "prediction")
# From columns (N, K) to their sums over the rows of each resample, (B, K).
Sums = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Two models' ratings of the same rows."""

    groups: list[str]
    """Of each row, (N,)."""
    labels: np.ndarray
    """(N,)"""
    model: np.ndarray
    """The first model's ratings, (N,)."""
    against: np.ndarray
    """The other model's, (N,)."""
    definition: Definition
    """Of the metrics."""
    unparsable: tuple[int, int] = (0, 0)
    """How many of each model's ratings are the middle of the scale, since the answer was no number."""


def main(argv: list[str]) -> None:
    """Compare two tables of predictions."""
    options = _options(argv)
    pairs = paired(read_predictions(options.model), read_predictions(options.against))
    comparison = compare(pairs, resamples=options.resamples, seed=options.seed)
    names = {"model": str(options.model), "against": str(options.against)}
    write_json(options.out or options.model.with_name(FILE), names | comparison)
    print(table(comparison))


def read_predictions(path: Path) -> list[dict[str, Any]]:
    """The rows of a `predictions.parquet`.

    Raises:
        RunError: If it is missing, no Parquet, or lacks a column.
    """
    import pyarrow

    try:
        predictions = read_table(path)
    except (OSError, pyarrow.ArrowInvalid) as error:
        raise RunError(
            f"{path}: cannot be read ({reason(error)}); wants a model's predictions.parquet"
        ) from error
    lacking = [name for name in COLUMNS if name not in predictions.column_names]
    if lacking:
        raise RunError(f"{path}: lacks the columns {', '.join(lacking)}; evaluate the model again")
    return predictions.select(list(COLUMNS)).to_pylist()


def paired(model: Sequence[dict[str, Any]], against: Sequence[dict[str, Any]]) -> Pairs:
    """Bring two tables of predictions together, in the order of the first.

    A rating that is NaN, because the written answer was no number, counts as the middle of the scale.

    Raises:
        RunError: At the first row that is not the same in both.
    """
    others = {row["id"]: row for row in against}
    _check_ids(model, others, "the other table lacks")
    _check_ids(against, {row["id"] for row in model}, "the first table lacks")
    for row in model:
        for name in ("scale", "corpus", "group", "label"):
            if row[name] != others[row["id"]][name]:
                raise RunError(
                    f"{row['id']}: {name} is {row[name]} in the first table and {others[row['id']][name]} in"
                    " the other; compare predictions of the same store"
                )
    scales = {row["scale"] for row in model}
    if len(model) < 2 or len(scales) > 1:
        raise RunError(
            f"{len(model)} rows of the scales {sorted(scales)}; a comparison wants two or more, of one"
        )
    scale = scales.pop()
    own, theirs = (
        np.array([table[row["id"]]["prediction"] for row in model], dtype=np.float64)
        for table in ({row["id"]: row for row in model}, others)
    )
    return Pairs(
        groups=[row["group"] or row["id"] for row in model],
        labels=np.array([row["label"] for row in model]),
        model=middle_if_unparsable(own, scale),
        against=middle_if_unparsable(theirs, scale),
        definition=definition_of(scale, {row["corpus"] for row in model}),
        unparsable=(int(np.isnan(own).sum()), int(np.isnan(theirs).sum())),
    )


def compare(pairs: Pairs, *, resamples: int = RESAMPLES, seed: int = SEED) -> dict[str, Any]:
    """The difference in every metric with its interval and p-value.

    Args:
        pairs: The two models' ratings.
        resamples: How many times units are drawn with replacement.
        seed: Of the draws.

    Returns:
        `unit` (`group` or `row`), `units`, `rows`, `resamples`, `seed`, `confidence`, and by name
        in `metrics` each metric of `model` and `against`, their `difference`, the ends of its interval, `low`
        and `high`, its two-sided `p`, and the `resamples` on which both have a value; None where it has none.
    """
    unit, units = drawn_units(pairs.groups)
    count = int(units.max()) + 1

    def of_both(counts: np.ndarray) -> dict[str, np.ndarray]:
        model, against = (
            metrics_of_draws(pairs.definition, ratings, pairs.labels, units, counts)
            for ratings in (pairs.model, pairs.against)
        )
        return {name: np.stack([model[name], against[name]]) for name in model}  # (2, B) by name

    once = of_both(np.ones((1, count)))
    chunks = [of_both(counts) for counts in draws(count, resamples, seed)]
    metrics = {
        name: _difference(values[:, 0], np.hstack([chunk[name] for chunk in chunks]))
        for name, values in once.items()
    }
    about = {"unit": unit, "units": count, "rows": len(units), "resamples": resamples, "seed": seed}
    if any(pairs.unparsable):
        about |= {"unparsable": dict(zip(("model", "against"), pairs.unparsable, strict=True))}
    return about | {"confidence": CONFIDENCE, "metrics": metrics}


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
    """The metrics of many resamples at once.

    Every metric is made of sums over rows, so the sums within each unit, times how often the unit was drawn,
    give the metrics of all resamples.

    Args:
        definition: Of the metrics.
        predictions: (N,).
        labels: (N,).
        units: The number of each row's unit, (N,), below U.
        counts: How often each unit was drawn, (B, U).

    Returns:
        (B,) by metric, not rounded; NaN where a metric has no value.
    """
    predictions, labels = definition.clipped(predictions), definition.clipped(labels)

    def sums(columns: np.ndarray) -> np.ndarray:
        by_unit = np.zeros((counts.shape[1], columns.shape[1]))
        np.add.at(by_unit, units, columns)
        return counts @ by_unit  # (B, U) x (U, K)

    values: dict[str, np.ndarray] = {}
    with np.errstate(divide="ignore", invalid="ignore"):
        for grading in definition.gradings:
            values |= _class_scores(grading, predictions, labels, sums)
        distances = _distances(predictions.astype(np.float64), labels.astype(np.float64), sums)
    return values | {name: distances[name] for name in definition.distances}


def _class_scores(
    grading: Grading, predictions: np.ndarray, labels: np.ndarray, sums: Sums
) -> dict[str, np.ndarray]:
    """A grading's scores, (B,) by name."""
    counted = grading.counted(labels)[:, None]
    true = grading.classify(labels)
    classes = np.unique(true)
    is_predicted, is_true = grading.classify(predictions)[:, None] == classes, true[:, None] == classes
    hits, predicted, support = (
        sums(columns & counted) for columns in (is_predicted & is_true, is_predicted, is_true)
    )  # (B, classes) each
    share = support / support.sum(1, keepdims=True)
    scores: dict[Score, np.ndarray] = {
        "accuracy": hits.sum(1) / support.sum(1),
        "precision": (share * _ratio(hits, predicted)).sum(1),
        "recall": (share * _ratio(hits, support)).sum(1),
        "f1": (share * _ratio(2 * hits, predicted + support)).sum(1),
    }
    return {name: scores[score] for score, name in grading.names.items()}


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """0 where both are 0."""
    return np.where(denominator > 0, numerator / denominator, 0.0)


def _distances(predictions: np.ndarray, labels: np.ndarray, sums: Sums) -> dict[str, np.ndarray]:
    x, y = predictions - predictions.mean(), labels - labels.mean()  # so that squares lose no digits
    columns = np.stack([np.ones_like(x), np.abs(predictions - labels), x, y, x * x, y * y, x * y], axis=1)
    rows, distance, *moments = sums(columns).T
    mean_x, mean_y, xx, yy, xy = (moment / rows for moment in moments)
    variance_x, variance_y = _variance(xx, mean_x), _variance(yy, mean_y)
    return {"MAE": distance / rows, "Corr": (xy - mean_x * mean_y) / np.sqrt(variance_x * variance_y)}


def _variance(squares: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """NaN where all values are equal but for rounding."""
    variance = squares - mean**2
    return np.where(variance > 1e-12 * np.maximum(squares, 1e-12), variance, np.nan)


def _difference(values: np.ndarray, resampled: np.ndarray) -> dict[str, float | None]:
    """From both models' values, (2,), and theirs on resamples, (2, B)."""
    result = dict.fromkeys(("model", "against", "difference", "low", "high", "p"))
    result |= {"model": _rounded(values[0]), "against": _rounded(values[1])}
    differences = resampled[0] - resampled[1]
    differences = differences[np.isfinite(differences)]
    difference = _rounded(values[0] - values[1])
    if difference is None or not len(differences):
        return result | {"resamples": 0}
    outside = (1 - CONFIDENCE) / 2
    low, high = np.quantile(differences, [outside, 1 - outside])
    rarer = min(np.sum(differences <= 0), np.sum(differences >= 0))
    p = _rounded(min(1.0, 2 * (rarer + 1) / (len(differences) + 1)))
    interval = {"low": _rounded(low), "high": _rounded(high)}
    return result | interval | {"difference": difference, "p": p, "resamples": len(differences)}


def _rounded(value: float) -> float | None:
    return round(float(value), 4) if np.isfinite(value) else None


def table(comparison: dict[str, Any]) -> str:
    """The result of `compare`, for a terminal."""
    drawn = {"group": "whole groups are drawn", "row": "rows are drawn one by one"}[comparison["unit"]]
    lines = [
        f"{comparison['rows']} rows; {drawn}: {comparison['units']}, {comparison['resamples']} times",
        f"{'':<16}{'model':>10}{'against':>10}{'difference':>12}{'95 % interval':>22}{'p':>9}",
    ]
    if "unparsable" in comparison:
        counts = ", ".join(f"{count} of {name}" for name, count in comparison["unparsable"].items())
        lines.insert(1, f"answers that were no number, and count as the middle of the scale: {counts}")
    for name, values in comparison["metrics"].items():
        signed = {key: "–" if value is None else f"{value:+.4f}" for key, value in values.items()}
        plain = {key: "–" if value is None else f"{value:.4f}" for key, value in values.items()}
        interval = f"{signed['low']} to {signed['high']}"
        lines.append(
            f"{name:<16}{plain['model']:>10}{plain['against']:>10}"
            f"{signed['difference']:>12}{interval:>22}{plain['p']:>9}"
        )
    return "\n".join(lines)


def _check_ids(rows: Sequence[dict[str, Any]], others: Any, lacks: str) -> None:
    seen = set()
    for row in rows:
        if row["id"] in seen:
            raise RunError(f"{row['id']}: stands in a table of predictions twice; evaluate the model again")
        if row["id"] not in others:
            raise RunError(f"{row['id']}: {lacks} this row; compare predictions of the same store and split")
        if not np.isfinite(row["label"]) or np.isinf(row["prediction"]):
            raise RunError(
                f"{row['id']}: rated {row['prediction']}, label {row['label']}; wants finite numbers"
            )
        seen.add(row["id"])


def _options(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m finetune.comparison", allow_abbrev=False)
    parser.add_argument("model", type=Path, metavar="A.parquet", help="predictions of the model")
    parser.add_argument("against", type=Path, metavar="B.parquet", help="predictions of the other")
    parser.add_argument("--out", type=Path, help=f"where the numbers go (default: {FILE} beside A.parquet)")
    parser.add_argument("--resamples", type=int, default=RESAMPLES, help=f"(default: {RESAMPLES})")
    parser.add_argument("--seed", type=int, default=SEED, help=f"of the draws (default: {SEED})")
    options = parser.parse_args(argv)
    if options.resamples < 1:
        raise UsageError(f"--resamples: got {options.resamples}, takes 1 or more")
    if options.seed < 0:
        raise UsageError(f"--seed: got {options.seed}, takes 0 or more")
    return options


if __name__ == "__main__":
    call(main)

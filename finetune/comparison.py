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
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from finetune.bootstrap import drawn_units, draws, metrics_of_draws
from finetune.msa_metrics import Definition, definition_of
from pipelines.atomic import write_json
from pipelines.errors import RunError, UsageError, call, reason

RESAMPLES = 10_000
SEED = 1111
CONFIDENCE = 0.95
FILE = "comparison.json"
COLUMNS = ("id", "group", "corpus", "scale", "label", "prediction")


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """What two models made of the same rows."""

    groups: list[str]
    """Of each row, (N,)."""
    labels: np.ndarray
    """(N,)"""
    model: np.ndarray
    """The one model's ratings, (N,)."""
    against: np.ndarray
    """The other's."""
    definition: Definition
    """Of the metrics."""


def main(argv: list[str]) -> None:
    """Compare two tables of predictions."""
    options = _options(argv)
    pairs = paired(read_predictions(options.model), read_predictions(options.against))
    told = compare(pairs, resamples=options.resamples, seed=options.seed)
    names = {"model": str(options.model), "against": str(options.against)}
    write_json(options.out or options.model.with_name(FILE), names | told)
    print(table(told))


def read_predictions(path: Path) -> list[dict[str, Any]]:
    """The rows of a `predictions.parquet`.

    Raises:
        RunError: If it is missing, no Parquet, or lacks a column.
    """
    import pyarrow
    import pyarrow.parquet

    try:
        found = pyarrow.parquet.read_table(path)
    except (OSError, pyarrow.ArrowInvalid) as error:
        raise RunError(
            f"{path}: cannot be read ({reason(error)}); wants a model's predictions.parquet"
        ) from error
    lacking = [name for name in COLUMNS if name not in found.column_names]
    if lacking:
        raise RunError(f"{path}: lacks the columns {', '.join(lacking)}; evaluate the model again")
    return found.select(list(COLUMNS)).to_pylist()


def paired(model: Sequence[dict[str, Any]], against: Sequence[dict[str, Any]]) -> Pairs:
    """Bring two tables of predictions together, in the order of the first.

    Raises:
        RunError: At the first row that is not the same in both.
    """
    others = {row["id"]: row for row in against}
    own = {row["id"] for row in model}
    _check_ids(model, others, "the other table lacks")
    _check_ids(against, own, "the first table lacks")
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
    return Pairs(
        groups=[row["group"] or row["id"] for row in model],
        labels=np.array([row["label"] for row in model]),
        model=np.array([row["prediction"] for row in model]),
        against=np.array([others[row["id"]]["prediction"] for row in model]),
        definition=definition_of(scales.pop(), {row["corpus"] for row in model}),
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
    whole = np.ones((1, count))
    values = [_on_both(pairs, units, whole)] + [
        _on_both(pairs, units, counts) for counts in draws(count, resamples, seed)
    ]
    metrics = {
        name: _difference(values[0][name][:, 0], np.hstack([chunk[name] for chunk in values[1:]]))
        for name in values[0]
    }
    about = {"unit": unit, "units": count, "rows": len(units), "resamples": resamples, "seed": seed}
    return about | {"confidence": CONFIDENCE, "metrics": metrics}


def _on_both(pairs: Pairs, units: np.ndarray, counts: np.ndarray) -> dict[str, np.ndarray]:
    """Both models' metrics, (2, B) by name."""
    model, against = (
        metrics_of_draws(pairs.definition, ratings, pairs.labels, units, counts)
        for ratings in (pairs.model, pairs.against)
    )
    return {name: np.stack([model[name], against[name]]) for name in model}


def _difference(values: np.ndarray, resampled: np.ndarray) -> dict[str, float | None]:
    """From both models' values, (2,), and theirs on resamples, (2, B)."""
    told = dict.fromkeys(("model", "against", "difference", "low", "high", "p"))
    told |= {"model": _rounded(values[0]), "against": _rounded(values[1])}
    found = resampled[0] - resampled[1]
    found = found[np.isfinite(found)]
    difference = _rounded(values[0] - values[1])
    if difference is None or not len(found):
        return told | {"resamples": 0}
    outside = (1 - CONFIDENCE) / 2
    low, high = np.quantile(found, [outside, 1 - outside])
    rarer = min(np.sum(found <= 0), np.sum(found >= 0))
    p = _rounded(min(1.0, 2 * (rarer + 1) / (len(found) + 1)))
    interval = {"low": _rounded(low), "high": _rounded(high)}
    return told | interval | {"difference": difference, "p": p, "resamples": len(found)}


def _rounded(value: float) -> float | None:
    return round(float(value), 4) if np.isfinite(value) else None


def table(told: dict[str, Any]) -> str:
    """What `compare` returns, for a terminal."""
    drawn = {"group": "whole groups are drawn", "row": "rows are drawn one by one"}[told["unit"]]
    lines = [
        f"{told['rows']} rows; {drawn}: {told['units']}, {told['resamples']} times",
        f"{'':<16}{'model':>10}{'against':>10}{'difference':>12}{'95 % interval':>22}{'p':>9}",
    ]
    for name, found in told["metrics"].items():
        interval = f"{_signed(found['low'])} to {_signed(found['high'])}"
        lines.append(
            f"{name:<16}{_cell(found['model']):>10}{_cell(found['against']):>10}"
            f"{_signed(found['difference']):>12}{interval:>22}{_cell(found['p']):>9}"
        )
    return "\n".join(lines)


def _cell(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.4f}"


def _check_ids(rows: Sequence[dict[str, Any]], others: Any, lacks: str) -> None:
    seen = set()
    for row in rows:
        if row["id"] in seen:
            raise RunError(f"{row['id']}: stands in a table of predictions twice; evaluate the model again")
        if row["id"] not in others:
            raise RunError(f"{row['id']}: {lacks} this row; compare predictions of the same store and split")
        if not np.isfinite([row["label"], row["prediction"]]).all():
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
    return options


if __name__ == "__main__":
    call(main)

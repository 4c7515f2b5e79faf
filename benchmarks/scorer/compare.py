"""Two scorings of the same variants side by side: other settings, or another version of the scorer.

    python -m benchmarks.scorer.compare BEFORE AFTER

The table has a line for each kind of variant and what made it: the median quality, the mean weight and the
share of variants at the store's lowest weight, in each of the two stores, and Spearman's correlation of their
weights. The line below says by how much the quality of a variant of both tracks exceeds that of its worse
track at most.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.commands import table
from benchmarks.scorer.sentiment import made_by, scored_variants
from pipelines.errors import RunError, call
from pipelines.row import Row
from pipelines.store import StoreReader

Pair = tuple[Row, Row]
"""A variant in the one store and in the other."""


def same_variants(before: Path, after: Path) -> list[Pair]:
    """The variants that both stores have, in the order of the first.

    Raises:
        RunError: If a store has no scored variant, or they share none.
    """
    first, second = (
        {row["id"]: row for row in scored_variants(StoreReader(store))} for store in (before, after)
    )
    pairs = [(row, second[name]) for name, row in first.items() if name in second]
    if not pairs:
        raise RunError(f"{before}, {after}: share no variant; name two scorings of one store")
    return pairs


def excess(rows: Sequence[Row]) -> float:
    """The most that the quality of a variant of both tracks exceeds that of its worse track, or NaN."""
    return max(
        (
            row["quality"] - min(row["quality_video"], row["quality_audio"])
            for row in rows
            if row["kind"] == "both" and None not in (row["quality_video"], row["quality_audio"])
        ),
        default=float("nan"),
    )


def report(pairs: Sequence[Pair]) -> str:
    """The table and the line below it."""
    lowest = [min(row["weight"] for row in rows) for rows in zip(*pairs, strict=True)]
    groups: dict[tuple[str, str], list[Pair]] = {}
    for pair in pairs:
        groups.setdefault((pair[0]["kind"], made_by(pair[0])), []).append(pair)
    head = ["kind", "made by", "variants", "quality", "weight", "at the lowest weight", "Spearman, weights"]
    lines = [[*names, str(len(group)), *_cells(group, lowest)] for names, group in sorted(groups.items())]
    found = " and ".join(f"{excess(rows):.2f}" for rows in zip(*pairs, strict=True))
    return (
        f"{table(head, lines)}\n\nThe quality of a variant of both tracks exceeds that of its worse track by"
        f" at most {found}."
    )


def _cells(group: Sequence[Pair], lowest: Sequence[float]) -> list[str]:
    """A group's figures, each before and after."""
    import pandas

    weights = np.array([[row["weight"] for row in pair] for pair in group])
    qualities = np.array([[row["quality"] for row in pair] for pair in group], dtype=np.float64)
    columns = (np.nanmedian(qualities, axis=0), weights.mean(axis=0), (weights <= lowest).mean(axis=0))
    spearman = pandas.DataFrame(weights).corr(method="spearman").loc[0, 1]
    return [*(f"{before:.2f} · {after:.2f}" for before, after in columns), f"{spearman:.2f}"]


def main(argv: list[str]) -> None:
    """Print the report."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scorer.compare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "stores", type=Path, nargs=2, metavar="STORE", help="two scorings of the same variants"
    )
    print(report(same_variants(*parser.parse_args(argv).stores)))


if __name__ == "__main__":
    call(main)

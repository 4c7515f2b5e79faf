"""The one scale that all rows of a run share: head, question, metrics and `model.json` depend on it."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from pipelines.errors import RunError, listed
from pipelines.row import SCALES
from pipelines.store import StoreReader


def common_scale(reader: StoreReader, ids: Iterable[str]) -> str:
    """The scale of rows' labels, a key of `SCALES`, by the ids of one or more rows.

    Raises:
        RunError: If they have several scales, or an unknown one; with the number of rows and the first ids of
            each.
    """
    chosen = set(ids)
    by_scale: dict[str, list[str]] = {}
    for row in reader.table.select(["id", "scale"]).to_pylist():
        if row["id"] in chosen:
            by_scale.setdefault(str(row["scale"]), []).append(row["id"])
    if len(by_scale) > 1 or not by_scale.keys() <= SCALES.keys():
        counts = "; ".join(f"{len(rows)} of {scale} ({listed(rows, 3)})" for scale, rows in by_scale.items())
        raise RunError(
            f"{reader.directory}: the labels' scales are {counts}; takes one of {', '.join(SCALES)} for all"
            " rows that are trained on and rated; import each corpus into a store of its own, or bring the"
            " labels to one scale in the table that `daq-msa import folder` reads (columns label and scale)"
        )
    return next(iter(by_scale))


def middle_if_unparsable(predictions: np.ndarray, scale: str) -> np.ndarray:
    """Ratings (N,), with the middle of the scale for NaN, the rating of an answer that was no number."""
    return np.where(np.isnan(predictions), sum(SCALES[scale]) / 2, predictions)

"""The one scale that a run's rows share: head, question, metrics and `model.json` are of one."""

from __future__ import annotations

from collections.abc import Iterable

from pipelines.errors import RunError, listed
from pipelines.row import SCALES
from pipelines.store import StoreReader


def common_scale(reader: StoreReader, ids: Iterable[str]) -> str:
    """The scale of rows' labels, a key of `SCALES`.

    Args:
        reader: The store.
        ids: Of the rows, one or more.

    Raises:
        RunError: If they have several scales, or one that is not known; with the number of rows and the first
            ids of each.
    """
    chosen = set(ids)
    found: dict[str, list[str]] = {}
    for row in reader.table.select(["id", "scale"]).to_pylist():
        if row["id"] in chosen:
            found.setdefault(str(row["scale"]), []).append(row["id"])
    if len(found) > 1 or not found.keys() <= SCALES.keys():
        told = "; ".join(f"{len(rows)} of {scale} ({listed(rows, 3)})" for scale, rows in found.items())
        raise RunError(
            f"{reader.directory}: the labels' scales are {told}; takes one of {', '.join(SCALES)} for all"
            " rows that are trained on and rated; import each corpus into a store of its own, or bring the"
            " labels to one scale in the table that `daq-msa import folder` reads (columns label and scale)"
        )
    return next(iter(found))

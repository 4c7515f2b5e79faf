"""Reads the probability of each row's label under a frozen multimodal model from a file.

The scorer runs no such model itself, so that it stays independent of the one that is trained. The file
can be of any model; `python -m finetune.label_probability` writes that of an untuned one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipelines.errors import UsageError, reason
from pipelines.store_files.parquet import read_table

NAME = "cross_label"
"""The signal that compares the label's probability for a variant with that for its source."""
LEAST = -100.0
"""Smallest change of a logarithm; a label of probability 0 has this one."""


def read(path: Path) -> dict[str, float]:
    """Read log probabilities by row id from a Parquet file with the columns `id` and `log_probability`.

    Raises:
        UsageError: If the file is missing or malformed, or a value is not a log probability.
    """
    import pyarrow

    setting = "score.label_probability"
    try:
        table = read_table(path, ["id", "log_probability"])
        values = table["log_probability"].cast(pyarrow.float64(), safe=False).to_pylist()
    except (OSError, pyarrow.ArrowException) as error:
        raise UsageError(
            f"{setting}: {path} cannot be read ({reason(error)}); give a Parquet file with the"
            " columns id and log_probability, as python -m finetune.label_probability writes it"
        ) from error
    labels: dict[str, float] = {}
    for row_id, value in zip(table["id"].to_pylist(), values, strict=True):
        if value is None or not value <= 0:
            raise UsageError(f"{setting}: {path}: {row_id} has {value}; takes a logarithm, 0 or less")
        if row_id in labels:
            raise UsageError(f"{setting}: {path}: {row_id} is there twice; takes each row once")
        labels[row_id] = value
    return labels


def change(labels: dict[str, float], ids: Sequence[str], sources: Sequence[str]) -> np.ndarray:
    """Log ratio of the label's probability for variants to that for their sources.

    Args:
        labels: Log probabilities by row id.
        ids: Ids of the variants, (n,).
        sources: Ids of their sources, (n,).

    Returns:
        Natural logarithms in [`LEAST`, 0], float32 (n,); NaN where the file lacks one of the two, or both
        probabilities are 0.
    """
    pairs = [
        (labels.get(own, np.nan), labels.get(other, np.nan)) for own, other in zip(ids, sources, strict=True)
    ]
    own, other = np.array(pairs, dtype=np.float64).reshape(-1, 2).T
    with np.errstate(invalid="ignore"):  # minus infinity on both sides
        return np.clip(own - other, LEAST, 0.0).astype(np.float32)

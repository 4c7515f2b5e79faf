"""What a frozen multimodal model holds of the rows' labels, read from a file.

The scorer asks no such model itself: it is kept apart from the one that its weights are for. Any model's
answers will do; `python -m finetune.label_probability` writes those of an untuned one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipelines.errors import UsageError, reason

NAME = "cross_label"
"""The signal: how much less probable the label is with the variant than with its source."""


def read(path: Path) -> dict[str, float]:
    """Log probabilities by row id, of a Parquet file with the columns `id` and `log_probability`.

    Raises:
        UsageError: If it is not there, is no such file, or a value is no logarithm of a probability.
    """
    import pyarrow
    import pyarrow.parquet

    setting = "score.label_probability"
    try:
        table = pyarrow.parquet.read_table(path, columns=["id", "log_probability"])
    except (OSError, pyarrow.ArrowException) as error:
        raise UsageError(
            f"{setting}: {path} cannot be read ({reason(error)}); give a Parquet file with the"
            " columns id and log_probability, as python -m finetune.label_probability writes it"
        ) from error
    found = dict(zip(table["id"].to_pylist(), table["log_probability"].to_pylist(), strict=True))
    for row_id, value in found.items():
        if value is None or not value <= 0:
            raise UsageError(f"{setting}: {path}: {row_id} has {value}; takes a logarithm, 0 or less")
    return found


def change(found: dict[str, float], ids: Sequence[str], sources: Sequence[str]) -> np.ndarray:
    """How much less probable labels are with variants than with their sources.

    Args:
        found: Log probabilities by row id.
        ids: Of the variants, (n,).
        sources: Of their sources, (n,).

    Returns:
        Natural logarithms of the ratio, at most 0, float32 (n,); NaN where the file lacks one of the two.
    """
    pairs = [
        (found.get(own, np.nan), found.get(other, np.nan)) for own, other in zip(ids, sources, strict=True)
    ]
    own, other = np.array(pairs, dtype=np.float64).reshape(-1, 2).T
    with np.errstate(invalid="ignore"):  # minus infinity on both sides
        return np.minimum(own - other, 0.0).astype(np.float32)

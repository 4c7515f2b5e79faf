"""Rating the originals of a split by all ranks together, and which of a metric's values is better."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from finetune import evaluation
from finetune.msa_metrics import DEFINITIONS, measured
from finetune.settings import BestBy
from pipelines.errors import RunError, UsageError
from pipelines.store import StoreReader

if TYPE_CHECKING:
    from transformers import TrainingArguments

    from finetune.inputs.dataset import EncodedRows
    from finetune.model.regressor import Rater

Row = dict[str, Any]


@dataclass(frozen=True)
class Ratings:
    """What a model makes of rows; each rank takes its share, and all get the whole."""

    model: Rater
    inputs: EncodedRows
    arguments: TrainingArguments

    def rate(self, rows: Sequence[Row]) -> np.ndarray:
        """Ratings on the labels' scale, (N,)."""
        ids = [row["id"] for row in rows]
        return evaluation.predict(self.model, self.inputs, ids, self.arguments.per_device_train_batch_size)

    def features(self, ids: Sequence[str]) -> list[list[float]]:
        """The last token's hidden states, (N, width)."""
        return evaluation.features(self.model, self.inputs, ids, self.arguments.per_device_train_batch_size)

    def metrics(self, rows: Sequence[Row]) -> dict[str, Any]:
        """The metrics of the rows' scale. Weights play no part."""
        return evaluation.metrics_of(rows, self.rate(rows))


def validation_rows(reader: StoreReader, best_by: BestBy) -> list[Row]:
    """The originals of the split valid; none where nothing is chosen by them.

    Raises:
        UsageError: If the store has none, or their scale no such metric.
    """
    if best_by == "none":
        return []
    try:
        rows = evaluation.rated_rows(reader, "valid")
    except RunError as error:
        raise UsageError(
            f"finetune.best_by: got {best_by}, which takes originals in the split valid ({error})"
        ) from error
    known = metric_names(rows[0]["scale"])
    if best_by not in known:
        raise UsageError(
            f"finetune.best_by: got {best_by};"
            f" on the scale {rows[0]['scale']} it takes none, {', '.join(known)}"
        )
    return rows


def metric_names(scale: str) -> list[str]:
    """The metrics of a scale."""
    return list(measured(DEFINITIONS[scale], np.array([0.0, 1.0]), np.array([0.0, 1.0])))

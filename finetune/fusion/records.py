"""The records of a training: a split's metrics, an epoch, a step."""

from __future__ import annotations

from typing import Any

import numpy as np

from finetune.fusion.features.arrays import Split
from finetune.gradient_norms import Conflict
from finetune.msa_metrics import DEFINITIONS, measured


def rated(predictions: np.ndarray, split: Split, scale: str) -> dict[str, float]:
    """A split's metrics; MAE is there for every scale."""
    metrics = measured(DEFINITIONS[scale], predictions, split.labels)
    return {"MAE": round(float(np.abs(predictions - split.labels).mean()), 4)} | metrics


def step_record(epoch: int, conflict: Conflict) -> dict[str, Any]:
    """A step's row in the table of steps."""
    columns = {"ratio": conflict.ratios, "factor": conflict.factors}
    flat = {f"{column}_{name}": value for column, own in columns.items() for name, value in own.items()}
    return {"epoch": epoch, "conflict": conflict.detected, **flat}


def epoch_record(
    epoch: int, done: list[tuple[dict[str, float], Conflict | None]], mae: float
) -> dict[str, Any]:
    """An epoch's record in the history, from the losses and conflicts of its steps."""
    conflicts = [conflict for _, conflict in done if conflict]

    def mean_of(values: list[dict[str, float]]) -> dict[str, float | None]:
        means = {
            name: float(np.mean([each[name] for each in values])) for name in (values[0] if values else {})
        }
        return {name: value if np.isfinite(value) else None for name, value in means.items()}

    return {
        "epoch": epoch,
        "losses": mean_of([loss for loss, conflict in done if conflict]),
        "valid_mae": mae,
        "conflict_rate": float(np.mean([conflict.detected for conflict in conflicts])) if conflicts else 0.0,
        "norms": mean_of([conflict.norms for conflict in conflicts]),
        "ratios": mean_of([conflict.ratios for conflict in conflicts]),
        "factors": mean_of([conflict.factors for conflict in conflicts]),
    }

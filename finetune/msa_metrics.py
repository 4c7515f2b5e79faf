"""Metrics of multimodal sentiment analysis: the numbers, names and rounding of MMSA.

Those of MOSI (also of MOSEI) and SIMS (also of SIMS v2) are what `MetricsTop("regression")` of the MMSA
package gives for the same tensors, to its 4 decimals; `tests/finetune/mmsa_golden.py` compares. Like
MMSA they compute in float32, which matters: a float32 0.1 is on the edge 0.1 of a bin, and converted to
float64 it would be beyond it. Three things differ. Numbers that are not finite are refused. Where
every label is 0, `Non0_*` is NaN; MMSA fails there. `Mult_acc_3` of MOSI is given; MMSA's release
computes it and leaves it out. MMSA has neither MUStARD nor MELD: their metrics are those of the
corpora's papers.

`DEFINITIONS` defines each metric; `finetune.comparison` computes them on resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

Classify = Callable[[np.ndarray], np.ndarray]
Score = Literal["accuracy", "precision", "recall", "f1"]


@dataclass(frozen=True, kw_only=True)
class Grading:
    """One way of sorting samples into classes, and the scores computed from it."""

    classify: Classify
    """From predictions or labels, (N,), to classes, (N,)."""
    names: Mapping[Score, str]
    """The scores with the metrics' names. All but accuracy are weighted by support."""
    without_zeros: bool = False
    """Leave samples with label 0 out."""

    def counted(self, labels: np.ndarray) -> np.ndarray:
        """Which samples count, (N,), bool."""
        return labels != 0 if self.without_zeros else np.ones(len(labels), dtype=bool)


@dataclass(frozen=True, kw_only=True)
class Definition:
    """The metrics of a corpus."""

    gradings: tuple[Grading, ...]
    bound: float | None = None
    """Both are clipped to ± this before anything is computed; None leaves them as they are."""
    distances: tuple[str, ...] = ("MAE", "Corr")
    """Metrics of the numbers themselves."""

    def clipped(self, values: np.ndarray) -> np.ndarray:
        """Predictions or labels as used by all metrics, (N,), float32."""
        values = np.asarray(values, dtype=np.float32)
        return values if self.bound is None else np.clip(values, -self.bound, self.bound)


def _nearest(values: np.ndarray, bound: int) -> np.ndarray:
    """The nearest whole number within ±bound; of a half the even one."""
    return np.round(np.clip(values, -bound, bound))


def _binned(values: np.ndarray, edges: tuple[float, ...]) -> np.ndarray:
    """The number of the right-closed bin between inner edges, which take the values' precision."""
    return np.searchsorted(np.asarray(edges, dtype=values.dtype), values, side="left")


# Of CMU-MOSI and CMU-MOSEI, labels in [-3, 3]. `Has0_acc_2` tells negative from not negative over all
# samples; `Non0_acc_2` leaves samples with label 0 out and tells positive from not positive. `Mult_acc_7`,
# `_5` and `_3` clip both to ±3, ±2 and ±1 and round half to even. MAE and Corr are unclipped.
_MOSI = Definition(
    gradings=(
        Grading(classify=lambda values: values >= 0, names={"accuracy": "Has0_acc_2", "f1": "Has0_F1_score"}),
        Grading(
            classify=lambda values: values > 0,
            names={"accuracy": "Non0_acc_2", "f1": "Non0_F1_score"},
            without_zeros=True,
        ),
        *(
            Grading(classify=partial(_nearest, bound=bound), names={"accuracy": f"Mult_acc_{2 * bound + 1}"})
            for bound in (1, 2, 3)
        ),
    )
)
# Of CH-SIMS and SIMS v2, labels in [-1, 1]. Both are clipped to it first, also for MAE and Corr. The bins are
# closed on the right: 2 with the edge 0, 3 with ±0.1, 5 with ±0.1 and ±0.7. `F1_score` is of the 2.
_SIMS = Definition(
    bound=1.0,
    gradings=(
        Grading(classify=partial(_binned, edges=(0.0,)), names={"accuracy": "Mult_acc_2", "f1": "F1_score"}),
        Grading(classify=partial(_binned, edges=(-0.1, 0.1)), names={"accuracy": "Mult_acc_3"}),
        Grading(classify=partial(_binned, edges=(-0.7, -0.1, 0.1, 0.7)), names={"accuracy": "Mult_acc_5"}),
    ),
)
# Of MUStARD, labels 0 or 1: sarcastic from 0.5 on.
_MUSTARD = Definition(
    distances=(),
    gradings=(
        Grading(
            classify=lambda values: values >= 0.5,
            names={"accuracy": "Accuracy", "precision": "Precision", "recall": "Recall", "f1": "F1_score"},
        ),
    ),
)
# Of MELD's sentiments, labels -1, 0 or 1. A prediction belongs to the nearest of them; ±0.5 belongs to 0.
_MELD = Definition(
    bound=1.0,
    gradings=(
        Grading(classify=partial(_nearest, bound=1), names={"accuracy": "Accuracy", "f1": "F1_score"}),
    ),
)

# By the name in a row's `scale`, and of corpora with metrics of their own.
DEFINITIONS: dict[str, Definition] = {"mosi": _MOSI, "sims": _SIMS, "binary": _MUSTARD}
OF_CORPUS: dict[str, Definition] = {"meld": _MELD}


def definition_of(scale: str, corpora: set[str]) -> Definition:
    """The metrics for rows of a scale; those of the corpus if all rows are of one that has its own."""
    (corpus,) = corpora if len(corpora) == 1 else ("",)
    return OF_CORPUS.get(corpus) or DEFINITIONS[scale]


def measured(definition: Definition, predictions: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """The metrics of a definition.

    Args:
        definition: Of the metrics.
        predictions: Any real numbers, (N,).
        labels: On the definition's scale, (N,).

    Returns:
        Rounded to 4 decimals. Corr of constants is NaN.

    Raises:
        ValueError: If there is no sample, the shapes differ, or a number is not finite.
    """
    x, y = (definition.clipped(values) for values in _checked(predictions, labels))
    values: dict[str, float] = {}
    for grading in definition.gradings:
        counted = grading.counted(y)
        scores = _scores(grading.classify(x[counted]), grading.classify(y[counted]))
        values |= {name: scores[score] for score, name in grading.names.items()}
    constant = len(y) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0
    distances = {
        "MAE": float(np.mean(np.abs(x - y))),  # in float32, as MMSA's
        "Corr": float("nan") if constant else float(np.corrcoef(x, y)[0, 1]),
    }
    values |= {name: distances[name] for name in definition.distances}
    return {name: round(float(value), 4) for name, value in values.items()}


def mosi(predictions: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Metrics of CMU-MOSI and CMU-MOSEI, labels in [-3, 3]; see `measured`."""
    return measured(_MOSI, predictions, labels)


def sims(predictions: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Metrics of CH-SIMS and SIMS v2, labels in [-1, 1]; see `measured`."""
    return measured(_SIMS, predictions, labels)


def mustard(predictions: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Metrics of MUStARD, labels 0 or 1; see `measured`."""
    return measured(_MUSTARD, predictions, labels)


def _scores(predicted: np.ndarray, true: np.ndarray) -> dict[Score, float]:
    """Accuracy and support-weighted precision, recall and F1; a ratio of 0 to 0 is 0."""
    if len(true) == 0:
        return dict.fromkeys(("accuracy", "precision", "recall", "f1"), float("nan"))
    classes, support = np.unique(true, return_counts=True)
    is_predicted = predicted[:, None] == classes  # (N, classes)
    hits, predictions = (is_predicted & (true[:, None] == classes)).sum(0), is_predicted.sum(0)
    by_class: dict[Score, np.ndarray] = {
        "precision": hits / np.maximum(predictions, 1),
        "recall": hits / support,
        "f1": 2 * hits / (predictions + support),
    }
    weighted = {score: float(np.average(values, weights=support)) for score, values in by_class.items()}
    return {"accuracy": float(np.mean(predicted == true)), **weighted}


def _checked(predictions: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(predictions, dtype=np.float32), np.asarray(labels, dtype=np.float32)
    if x.shape != y.shape or x.ndim != 1:
        raise ValueError(f"predictions have the shape {x.shape}, labels {y.shape}; wants (N,) for both")
    if len(y) == 0:
        raise ValueError("no sample: metrics need at least one")
    for name, values in (("predictions", x), ("labels", y)):
        if not np.isfinite(values).all():
            raise ValueError(f"{name}[{int(np.argmin(np.isfinite(values)))}] is not finite")
    return x, y

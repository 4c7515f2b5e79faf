"""Metrics of multimodal sentiment analysis, with the names and the rounding of MMSA.

The definitions are those of thuiar/MMSA's `metricsTop.py` (regression). Where a correlation has
no value (constant predictions), it is NaN here as it is there.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

# Right-closed bins of CH-SIMS.
_SIMS_2 = (-1.01, 0.0, 1.01)
_SIMS_3 = (-1.01, -0.1, 0.1, 1.01)
_SIMS_5 = (-1.01, -0.7, -0.1, 0.1, 0.7, 1.01)


def mosi(predictions: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Metrics of CMU-MOSI and CMU-MOSEI.

    `Has0_acc_2` tells negative from not negative over all samples; `Non0_acc_2` leaves samples
    with label 0 out and tells positive from not positive. `Mult_acc_7`, `_5` and `_3` clip both
    to ±3, ±2 and ±1 and round half to even. F1 is weighted by support. MAE and Corr are unclipped.

    Args:
        predictions: Any real numbers, (N,).
        labels: On the scale [-3, 3], (N,).

    Returns:
        Rounded to 4 decimals.

    Raises:
        ValueError: If there is no sample, the shapes differ, or a number is not finite.
    """
    found, wanted = _checked(predictions, labels)
    nonzero = wanted != 0
    multi = {
        f"Mult_acc_{2 * bound + 1}": _accuracy(_rounded(found, bound), _rounded(wanted, bound))
        for bound in (3, 2, 1)
    }
    return _rounded_values(
        {
            "Has0_acc_2": _accuracy(found >= 0, wanted >= 0),
            "Has0_F1_score": weighted_f1(found >= 0, wanted >= 0),
            "Non0_acc_2": _accuracy(found[nonzero] > 0, wanted[nonzero] > 0),
            "Non0_F1_score": weighted_f1(found[nonzero] > 0, wanted[nonzero] > 0),
            "Mult_acc_3": multi["Mult_acc_3"],
            "Mult_acc_5": multi["Mult_acc_5"],
            "Mult_acc_7": multi["Mult_acc_7"],
            "MAE": np.abs(found - wanted).mean(),
            "Corr": _correlation(found, wanted),
        }
    )


def sims(predictions: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Metrics of CH-SIMS: both clipped to [-1, 1] first, also for MAE and Corr; right-closed bins.

    Args, returns and errors as `mosi`, with labels on the scale [-1, 1].
    """
    found, wanted = (np.clip(values, -1, 1) for values in _checked(predictions, labels))
    binned = {edges: (_binned(found, edges), _binned(wanted, edges)) for edges in (_SIMS_2, _SIMS_3, _SIMS_5)}
    return _rounded_values(
        {
            "Mult_acc_2": _accuracy(*binned[_SIMS_2]),
            "Mult_acc_3": _accuracy(*binned[_SIMS_3]),
            "Mult_acc_5": _accuracy(*binned[_SIMS_5]),
            "F1_score": weighted_f1(*binned[_SIMS_2]),
            "MAE": np.abs(found - wanted).mean(),
            "Corr": _correlation(found, wanted),
        }
    )


def mustard(predictions: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Metrics of MUStARD: accuracy and support-weighted precision, recall and F1 of being sarcastic.

    Args:
        predictions: Scores, sarcastic from 0.5 on, (N,).
        labels: 0 or 1, (N,).

    Returns, raises:
        As `mosi`.
    """
    found, wanted = _checked(predictions, labels)
    said, is_so = found >= 0.5, wanted >= 0.5
    precision, recall, f1 = _weighted_scores(said, is_so)
    return _rounded_values(
        {"Accuracy": _accuracy(said, is_so), "Precision": precision, "Recall": recall, "F1_score": f1}
    )


Metrics = Callable[[np.ndarray, np.ndarray], dict[str, float]]
# By the name in a row's `scale`.
METRICS: dict[str, Metrics] = {"mosi": mosi, "sims": sims, "binary": mustard}


def weighted_f1(predictions: np.ndarray, labels: np.ndarray) -> float:
    """Each class' F1, averaged by the class' share of the labels; NaN without samples."""
    return _weighted_scores(predictions, labels)[2]


def _weighted_scores(found: np.ndarray, wanted: np.ndarray) -> tuple[float, float, float]:
    """Support-weighted precision, recall and F1; a ratio of 0 to 0 is 0."""
    if len(wanted) == 0:
        return float("nan"), float("nan"), float("nan")
    totals = np.zeros(3)
    for kind in np.unique(wanted):
        both = np.sum((found == kind) & (wanted == kind))
        said, is_so = np.sum(found == kind), np.sum(wanted == kind)
        precision = both / said if said else 0.0
        f1 = 2 * both / (said + is_so)
        totals += is_so / len(wanted) * np.array([precision, both / is_so, f1])
    return float(totals[0]), float(totals[1]), float(totals[2])


def _checked(predictions: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    found, wanted = np.asarray(predictions, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    if found.shape != wanted.shape or found.ndim != 1:
        raise ValueError(
            f"predictions have the shape {found.shape}, labels {wanted.shape}; wants (N,) for both"
        )
    if len(wanted) == 0:
        raise ValueError("no sample: metrics need at least one")
    for name, values in (("predictions", found), ("labels", wanted)):
        if not np.isfinite(values).all():
            raise ValueError(f"{name}[{int(np.argmin(np.isfinite(values)))}] is not finite")
    return found, wanted


def _rounded(values: np.ndarray, bound: int) -> np.ndarray:
    return np.round(np.clip(values, -bound, bound))


def _binned(values: np.ndarray, edges: tuple[float, ...]) -> np.ndarray:
    return np.searchsorted(edges, values, side="left")


def _accuracy(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.mean(found == wanted)) if len(wanted) else float("nan")


def _correlation(found: np.ndarray, wanted: np.ndarray) -> float:
    if len(wanted) < 2 or np.ptp(found) == 0 or np.ptp(wanted) == 0:
        return float("nan")
    return float(np.corrcoef(found, wanted)[0, 1])


def _rounded_values(values: dict[str, float]) -> dict[str, float]:
    return {name: round(float(value), 4) for name, value in values.items()}

"""From qualities to training weights.

    w = clip((q - q_low) / (q_high - q_low), floor, 1) ** gamma

q_low and q_high are quantiles over the qualities given, those of a training split's variants.
Originals are not weighed: theirs is 1. That variants get adaptive weights is published
(DaQ-MSA, arXiv 2601.06870); the formula is ours.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

NO_SPREAD = 1e-6
"""Quantiles that are closer than this rank nothing."""
_NAMED = 5  # rows that a message names


def weights(
    qualities: Sequence[float] | np.ndarray,
    *,
    low: float,
    high: float,
    gamma: float,
    floor: float,
    ids: Sequence[str] | None = None,
) -> np.ndarray:
    """The weights of variants with these qualities.

    Args:
        qualities: In [0, 1], shape (n,).
        low: The quantile whose quality, and any below, gets the least weight; in [0, 1).
        high: The quantile whose quality, and any above, gets weight 1; in (low, 1].
        gamma: Exponent, above 0: below 1 it lifts the middle, above 1 it lowers it.
        floor: The least value before the exponent, in [0, 1], so that the least weight is
            floor ** gamma.
        ids: Names of the rows for messages; their positions without.

    Returns:
        Weights in [floor ** gamma, 1], float64 (n,). Where the two quantiles are equal there is
        nothing to rank by: qualities at or above them get 1, those below the least weight.

    Raises:
        ValueError: If a setting is out of its range, or a quality is NaN or out of [0, 1].
    """
    check_settings(low=low, high=high, gamma=gamma, floor=floor)
    quality = np.asarray(qualities, dtype=np.float64)
    bad = np.flatnonzero(~((quality >= 0) & (quality <= 1)))
    if len(bad):
        named = [f"{ids[i] if ids is not None else f'row {i}'} ({quality[i]:g})" for i in bad[:_NAMED]]
        more = f" and {len(bad) - _NAMED} more" if len(bad) > _NAMED else ""
        raise ValueError(f"qualities: wanted numbers in [0, 1], found {', '.join(named)}{more}")
    if len(quality) == 0:
        return quality
    q_low, q_high = quantiles(quality, low=low, high=high)
    if q_high - q_low < NO_SPREAD:
        share = np.where(quality >= q_low - NO_SPREAD, 1.0, floor)
    else:
        share = np.clip((quality - q_low) / (q_high - q_low), floor, 1.0)
    return share**gamma


def quantiles(qualities: np.ndarray, *, low: float, high: float) -> tuple[float, float]:
    """q_low and q_high, by linear interpolation between order statistics."""
    q_low, q_high = np.quantile(qualities, (low, high))
    return float(q_low), float(q_high)


def effective_size(weights: np.ndarray) -> float:
    """(Σw)² / Σw²: as many rows of weight 1 have the same spread; 0 where no weight is above 0."""
    squares = float((weights * weights).sum())
    return float(weights.sum()) ** 2 / squares if squares > 0 else 0.0


def check_settings(*, low: float, high: float, gamma: float, floor: float) -> None:
    """Refuse settings out of range.

    Raises:
        ValueError: Naming the setting, what it got and what it takes.
    """
    if not 0 <= low < 1:
        raise ValueError(f"low: {low:g} is not a quantile in [0, 1)")
    if not low < high <= 1:
        raise ValueError(f"high: {high:g} is not a quantile above low ({low:g}) and at most 1")
    if not 0 < gamma < float("inf"):
        raise ValueError(f"gamma: {gamma:g} is not above 0 and finite")
    if not 0 <= floor <= 1:
        raise ValueError(f"floor: {floor:g} is not in [0, 1]")

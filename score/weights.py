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
    return between_quantiles(quality, low=low, high=high, floor=floor) ** gamma


def newness(novelties: Sequence[np.ndarray], *, low: float, high: float, floor: float) -> np.ndarray:
    """How much of a variant is new beside the others, for weights that ask for it; the formula is ours.

    Args:
        novelties: Of each way to be new, the variants' values, (n,); NaN where one does not apply.
        low: The quantile of a novelty that is worth the least, with all below.
        high: The quantile that is worth 1, with all above.
        floor: What the least is worth.

    Returns:
        In [floor, 1], (n,): the best that a novelty is worth; 1 where none is known.
    """
    worth = []
    for values in novelties:
        known = np.isfinite(values)
        share = np.full(len(values), np.nan)
        if known.any():
            share[known] = between_quantiles(values[known], low=low, high=high, floor=floor)
        worth.append(share)
    best = np.fmax.reduce(worth)
    return np.where(np.isfinite(best), best, 1.0)


def between_quantiles(values: np.ndarray, *, low: float, high: float, floor: float) -> np.ndarray:
    """Where values (n,) lie between two of their quantiles, from `floor` to 1.

    Where the two are equal there is nothing to rank by: values at or above them get 1, those below the floor.
    """
    at_low, at_high = quantiles(values, low=low, high=high)
    if at_high - at_low < NO_SPREAD:
        return np.where(values >= at_low - NO_SPREAD, 1.0, floor)
    return np.clip((values - at_low) / (at_high - at_low), floor, 1.0)


def quantiles(qualities: np.ndarray, *, low: float, high: float) -> tuple[float, float]:
    """q_low and q_high, by linear interpolation between order statistics."""
    q_low, q_high = np.quantile(qualities, (low, high))
    return float(q_low), float(q_high)


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

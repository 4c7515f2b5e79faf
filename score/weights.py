"""From qualities to training weights.

    w = clip((q - q_low) / (q_high - q_low), floor, 1) ** gamma

On the anchored scale, q_low and q_high are qualities of pairs of known quality, made from the corpus' own
originals (`score.calibrate`): a variant's weight depends on no other variant, so that variants that are all
good all weigh about 1, and variants that are all bad weigh the least. On the scale of ranks, they are
quantiles of the qualities of a training split's variants. Originals have weight 1. Adaptive weights for
variants are published (DaQ-MSA, arXiv 2601.06870); the formula and both scales are ours.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

NO_SPREAD = 1e-6
"""Quantiles that are closer than this count as equal."""
_NAMED = 5  # most rows that a message names


def anchored(
    qualities: Sequence[float] | np.ndarray,
    *,
    bad: float,
    good: float,
    gamma: float,
    floor: float,
    ids: Sequence[str] | None = None,
) -> np.ndarray:
    """The weights of variants with these qualities, on a scale that does not depend on them.

    Args:
        qualities: In [0, 1], shape (n,).
        bad: Qualities up to this one get the smallest weight.
        good: Qualities from this one on get weight 1; above `bad`.
        gamma, floor, ids: As for `weights`.

    Returns:
        Weights in [floor ** gamma, 1], float64 (n,).

    Raises:
        ValueError: If a quality is NaN or out of [0, 1].
    """
    assert bad < good, f"{bad} and {good} are no scale"
    return _between(_checked(qualities, ids), bad, good, floor) ** gamma


def weights(
    qualities: Sequence[float] | np.ndarray,
    *,
    low: float,
    high: float,
    gamma: float,
    floor: float,
    ids: Sequence[str] | None = None,
) -> np.ndarray:
    """The weights of variants with these qualities, on the scale of their ranks.

    Args:
        qualities: In [0, 1], shape (n,).
        low: Qualities up to this quantile get the smallest weight; in [0, 1).
        high: Qualities from this quantile on get weight 1; in (low, 1].
        gamma: Exponent, above 0: below 1 it raises medium weights, above 1 it lowers them.
        floor: The smallest value before the exponent, in [0, 1]; the smallest weight is floor ** gamma.
        ids: Ids of the rows for messages; by default their positions.

    Returns:
        Weights in [floor ** gamma, 1], float64 (n,). If the two quantiles are equal, qualities at or
        above them get 1, and those below the smallest weight.

    Raises:
        ValueError: If a setting is out of its range, or a quality is NaN or out of [0, 1].
    """
    check_settings(low=low, high=high, gamma=gamma, floor=floor)
    quality = _checked(qualities, ids)
    return between_quantiles(quality, low=low, high=high, floor=floor) ** gamma if len(quality) else quality


def _checked(qualities: Sequence[float] | np.ndarray, ids: Sequence[str] | None) -> np.ndarray:
    """The qualities as float64 (n,), if all are in [0, 1]."""
    quality = np.asarray(qualities, dtype=np.float64)
    bad = np.flatnonzero(~((quality >= 0) & (quality <= 1)))
    if len(bad):
        named = [f"{ids[i] if ids is not None else f'row {i}'} ({quality[i]:g})" for i in bad[:_NAMED]]
        more = f" and {len(bad) - _NAMED} more" if len(bad) > _NAMED else ""
        raise ValueError(f"qualities: wanted numbers in [0, 1], found {', '.join(named)}{more}")
    return quality


def newness(novelties: Sequence[np.ndarray], *, low: float, high: float, floor: float) -> np.ndarray:
    """Relative novelty of variants, the factor that the setting `novelty` is an exponent of; formula ours.

    Args:
        novelties: The variants' values of each novelty signal, (n,); NaN where one does not apply.
        low: Values up to this quantile count as `floor`.
        high: Values from this quantile on count as 1.
        floor: The smallest novelty.

    Returns:
        In [floor, 1], (n,): the largest over the signals; 1 where none is known.
    """
    scaled = []
    for values in novelties:
        known = np.isfinite(values)
        share = np.full(len(values), np.nan)
        if known.any():
            share[known] = between_quantiles(values[known], low=low, high=high, floor=floor)
        scaled.append(share)
    best = np.fmax.reduce(scaled)
    return np.where(np.isfinite(best), best, 1.0)


def between_quantiles(values: np.ndarray, *, low: float, high: float, floor: float) -> np.ndarray:
    """Values (n,) scaled linearly between two of their quantiles and clipped to [`floor`, 1].

    If the quantiles are equal, values at or above them get 1 and those below `floor`.
    """
    at_low, at_high = quantiles(values, low=low, high=high)
    if at_high - at_low < NO_SPREAD:
        return np.where(values >= at_low - NO_SPREAD, 1.0, floor)
    return _between(values, at_low, at_high, floor)


def _between(values: np.ndarray, low: float, high: float, floor: float) -> np.ndarray:
    """Values (n,) scaled linearly from [`low`, `high`] to [0, 1] and clipped to [`floor`, 1]."""
    return np.clip((values - low) / (high - low), floor, 1.0)


def quantiles(qualities: np.ndarray, *, low: float, high: float) -> tuple[float, float]:
    """q_low and q_high, by linear interpolation between order statistics."""
    q_low, q_high = np.quantile(qualities, (low, high))
    return float(q_low), float(q_high)


def check_settings(*, low: float, high: float, gamma: float, floor: float) -> None:
    """Check the range of settings.

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

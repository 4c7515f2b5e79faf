"""When the gradient norms of the modalities conflict, and how much the dominant modality is slowed down.

Used by `finetune.training.modality_conflict` in language models and by `finetune.fusion.conflict` in the
fusion model, where the method and its source are described.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ConflictSettings:
    """The conflict-aware penalty. Gradient norms are measured and logged with and without it."""

    penalty: bool = True
    """Whether the dominant modality is slowed down; without, conflicts are only reported."""
    threshold: float = 2.0
    """τ, at least 1: the ratio of gradient norms above which there is a conflict."""
    alpha: float = 0.5
    """α, above 0: how steeply the penalty grows."""
    floor: float = 0.1
    """The smallest factor, in (0, 1]."""
    decay: float = 0.9
    """β in [0, 1): how much of the averaged norms a step keeps."""
    start_epoch: int = 0
    """The first epoch with a penalty, from 0."""
    end_epoch: int | None = None
    """The first epoch without it again; null for no end."""

    def __post_init__(self) -> None:
        ranges = {
            "threshold": (self.threshold >= 1, "at least 1"),
            "alpha": (self.alpha > 0, "above 0"),
            "floor": (0 < self.floor <= 1, "in (0, 1]"),
            "decay": (0 <= self.decay < 1, "in [0, 1)"),
            "start_epoch": (self.start_epoch >= 0, "at least 0"),
            "end_epoch": (
                self.end_epoch is None or self.end_epoch >= self.start_epoch,
                f"{self.start_epoch} or more, or null",
            ),
        }
        for name, (holds, range_) in ranges.items():
            if not holds:
                raise ValueError(f"{name}: got {getattr(self, name)}; it takes a value {range_}")

    def has_penalty(self, epoch: int) -> bool:
        """Whether gradients are scaled in this epoch, counted from 0."""
        end = math.inf if self.end_epoch is None else self.end_epoch
        return self.penalty and self.start_epoch <= epoch < end


@dataclass(frozen=True, kw_only=True)
class Conflict:
    """The result of one step's detection, by modality."""

    norms: dict[str, float]
    """n_m: averaged norms of the task loss' gradient at the features."""
    ratios: dict[str, float]
    """r_m: each norm over the mean of the others."""
    factors: dict[str, float]
    """k_m: what the gradients of each encoder were multiplied by."""
    detected: bool
    """Whether a ratio passed the threshold, penalised or not."""


def ratios(norms: Mapping[str, float]) -> dict[str, float]:
    """Each norm over the mean of the others.

    The ratio is 1 for a single modality, or where no modality has a gradient, and infinite where only this
    one has.
    """
    result = {}
    for name, norm in norms.items():
        others = [value for other, value in norms.items() if other != name]
        mean = sum(others) / len(others) if others else norm
        result[name] = norm / mean if mean else (math.inf if norm else 1.0)
    return result


def factors(ratios: Mapping[str, float], threshold: float, alpha: float, floor: float) -> dict[str, float]:
    """k_m: below 1 for the modality with the largest ratio if that is above the threshold, else 1."""
    scaled = dict.fromkeys(ratios, 1.0)
    if ratios:
        dominant = max(ratios, key=lambda name: ratios[name])
        excess = ratios[dominant] / threshold - 1
        if excess > 0:
            scaled[dominant] = max(floor, 1 - math.tanh(alpha * excess))
    return scaled


def judged(
    norms: Mapping[str, float], threshold: float, alpha: float, floor: float, *, scales: bool
) -> Conflict:
    """The conflict among norms; unless `scales`, all factors are 1."""
    by_modality = ratios(norms)
    scaled = factors(by_modality, threshold, alpha, floor) if scales else dict.fromkeys(by_modality, 1.0)
    detected = max(by_modality.values(), default=0.0) > threshold
    return Conflict(norms=dict(norms), ratios=by_modality, factors=scaled, detected=detected)

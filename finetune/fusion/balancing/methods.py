"""How a step's gradients are balanced between the modalities: one method of several, on the same network.

The order of a step is: backward passes, sum over processes, unscaling, balance, clipping, optimizer.
Under every method that scales encoders' gradients, those of the statistical loss stay as they are.
Conflicts are watched and logged under every method.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

from finetune.conflict import Conflict, ConflictSettings
from finetune.fusion.balancing.cggm import Cggm
from finetune.fusion.balancing.mmpareto import MMPareto
from finetune.fusion.balancing.observation import Evidence, Method
from finetune.fusion.balancing.ogm_ge import OgmGe
from finetune.fusion.conflict import ConflictPenalty
from finetune.fusion.distributed import Total, alone
from finetune.fusion.gradient_scaling import Encoders, Scaling
from finetune.fusion.settings import BalanceSettings

# Beside `conflict_penalty` and `none`: a method of its own, from its settings, the encoders, the
# seed and the sum over processes.
METHODS: dict[str, Callable[[BalanceSettings, Encoders, int, Total], Method]] = {
    "ogm_ge": lambda own, encoders, seed, total: OgmGe(
        encoders, alpha=own.ogm_ge_alpha, seed=seed, total=total
    ),
    "cggm": lambda own, encoders, seed, total: Cggm(rate=own.cggm_rate, total=total),
    "mmpareto": lambda own, encoders, seed, total: MMPareto(encoders, gain=own.mmpareto_gain, total=total),
    "constant": lambda own, encoders, seed, total: Constant(
        {name: own.constant if name == next(iter(encoders)) else 1.0 for name in encoders}
    ),
}


class Constant:
    """The same factors at every step: what any method must beat that slows one encoder down."""

    def __init__(self, factors: Mapping[str, float]) -> None:
        self._factors = dict(factors)

    def observe(self, evidence: Evidence) -> None:
        """Nothing to see."""

    def factors(self) -> dict[str, float]:
        """As they were given."""
        return dict(self._factors)

    def finish(self) -> None:
        """Nothing to do."""

    def state_dict(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Nothing to go on from."""


class Balance:
    """A method at work in a training, and the detector of conflicts beside it.

    Args:
        watch: Detects conflicts; penalises them where there is no other method.
        method: Another method, with a `watch` that has no epoch to act in.
        encoders: Each modality's parameters.
        accumulation: Micro-batches in a step.
        total: Sums over processes.
    """

    def __init__(
        self,
        watch: ConflictPenalty,
        method: Method | None,
        encoders: Encoders,
        *,
        accumulation: int = 1,
        total: Total = alone,
    ) -> None:
        self.watch, self.method, self.encoders = watch, method, encoders
        self.scaling = Scaling(accumulation, total)

    def observe(self, evidence: Evidence) -> None:
        """Take a micro-batch in, before its backward pass."""
        scale = evidence.loss_scale
        self.watch.observe(evidence.task, evidence.features, loss_scale=scale)
        if self.method:
            self.method.observe(evidence)
        if evidence.statistics is None:
            return
        exempt, outputs = evidence.statistics, evidence.outputs
        if self.method:
            factors = self.method.factors()
            self.scaling.keep(exempt, factors, self.encoders, outputs=outputs, loss_scale=scale)
        else:
            self.watch.keep(exempt, self.encoders, outputs=outputs, loss_scale=scale)

    def apply(self) -> Conflict:
        """End a step: balance the gradients in place, between unscaling and clipping."""
        conflict = self.watch.apply(self.encoders)
        if not self.method:
            return conflict
        factors = self.method.factors()
        self.scaling.apply(self.encoders, factors)
        self.method.finish()
        return replace(conflict, factors=conflict.factors | factors)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs, taken between steps."""
        return {
            "watch": self.watch.state_dict(),
            "method": self.method.state_dict() if self.method else {},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.watch.load_state_dict(state["watch"])
        if self.method:
            self.method.load_state_dict(state["method"])


def make_balance(
    balance: BalanceSettings,
    conflict: ConflictSettings,
    encoders: Encoders,
    *,
    accumulation: int,
    seed: int,
    total: Total = alone,
) -> Balance:
    """What the settings say; without a penalty the detector of conflicts has no epoch to act in."""
    values = asdict(conflict)
    if not values.pop("penalty") or balance.method != "conflict_penalty":
        values |= {"start_epoch": 0, "end_epoch": 0}
    watch = ConflictPenalty(**values, accumulation=accumulation, total=total)
    make = METHODS.get(balance.method)
    method = make(balance, encoders, seed, total) if make else None
    return Balance(watch, method, encoders, accumulation=accumulation, total=total)

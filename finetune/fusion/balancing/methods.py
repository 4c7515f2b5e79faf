"""Balances a step's gradients between the modalities, by one of several methods, on the same network.

The order of a step is: backward passes, sum over processes, unscaling, balance, clipping, optimizer.
No method scales the gradients of the statistical loss. Conflicts are detected and logged under every method.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

from finetune.fusion.balancing.cggm import Cggm
from finetune.fusion.balancing.mmpareto import MMPareto
from finetune.fusion.balancing.observation import Method, Observation
from finetune.fusion.balancing.ogm_ge import OgmGe
from finetune.fusion.conflict import ConflictPenalty
from finetune.fusion.distributed import AllReduceSum, identity
from finetune.fusion.gradient_scaling import Encoders, Scaling
from finetune.fusion.settings import BalanceSettings
from finetune.gradient_norms import Conflict, ConflictSettings

# The methods beside `conflict_penalty` and `none`, made from settings, encoders, seed and sum over processes.
METHODS: dict[str, Callable[[BalanceSettings, Encoders, int, AllReduceSum], Method]] = {
    "ogm_ge": lambda own, encoders, seed, all_reduce_sum: OgmGe(
        encoders, alpha=own.ogm_ge_alpha, seed=seed, all_reduce_sum=all_reduce_sum
    ),
    "cggm": lambda own, _, __, all_reduce_sum: Cggm(rate=own.cggm_rate, all_reduce_sum=all_reduce_sum),
    "mmpareto": lambda own, encoders, _, all_reduce_sum: MMPareto(
        encoders, gain=own.mmpareto_gain, all_reduce_sum=all_reduce_sum
    ),
    "constant": lambda own, encoders, _, __: Constant(
        {name: own.constant if name == next(iter(encoders)) else 1.0 for name in encoders}
    ),
}


class Constant(Method):
    """The same factors at every step: the baseline of any method that slows one encoder down."""

    def __init__(self, factors: Mapping[str, float]) -> None:
        self._factors = dict(factors)

    def factors(self) -> dict[str, float]:
        """The factors as given."""
        return dict(self._factors)


class Balance:
    """The method of a training, and the detector of conflicts beside it.

    Args:
        watch: Detects conflicts, and penalizes them if there is no other method.
        method: Another method; `watch` then has no epoch with a penalty.
        encoders: Each modality's parameters.
        accumulation: Micro-batches in a step.
        all_reduce_sum: Sums over processes.
    """

    def __init__(
        self,
        watch: ConflictPenalty,
        method: Method | None,
        encoders: Encoders,
        *,
        accumulation: int = 1,
        all_reduce_sum: AllReduceSum = identity,
    ) -> None:
        self.watch, self.method, self.encoders = watch, method, encoders
        self.scaling = Scaling(accumulation, all_reduce_sum)

    def observe(self, observation: Observation) -> None:
        """Record a micro-batch before its backward pass."""
        exempt, outputs = observation.statistics, observation.outputs
        scale = observation.loss_scale
        self.watch.observe(observation.task, observation.features, loss_scale=scale)
        if self.method:
            self.method.observe(observation)
        if exempt is not None and self.method:
            factors = self.method.factors()
            self.scaling.keep(exempt, factors, self.encoders, outputs=outputs, loss_scale=scale)
        elif exempt is not None:
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
        """The state for a checkpoint, taken between steps."""
        method = self.method.state_dict() if self.method else {}
        return {"watch": self.watch.state_dict(), "method": method}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a checkpoint."""
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
    all_reduce_sum: AllReduceSum = identity,
) -> Balance:
    """The balance of these settings; without a penalty the detector has no epoch to act in."""
    values = asdict(conflict)
    if not values.pop("penalty") or balance.method != "conflict_penalty":
        values |= {"start_epoch": 0, "end_epoch": 0}
    watch = ConflictPenalty(**values, accumulation=accumulation, all_reduce_sum=all_reduce_sum)
    make = METHODS.get(balance.method)
    method = make(balance, encoders, seed, all_reduce_sum) if make else None
    return Balance(watch, method, encoders, accumulation=accumulation, all_reduce_sum=all_reduce_sum)

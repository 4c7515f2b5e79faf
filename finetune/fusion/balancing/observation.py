"""The observation of a micro-batch before its backward pass, and the interface of balancing methods.

OGM-GE and CGGM judge a modality by how well it classifies alone. For a rating, our counterpart of the
probability of the right class is the likelihood exp(−|ŷ_m − y_m|) of the label under a Laplace distribution
of scale 1 around the unimodal head's rating: L1 is its negative logarithm, as cross-entropy is that of the
probability.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from finetune.fusion.distributed import AllReduceSum, identity
from finetune.fusion.gradient_scaling import Outputs
from pipelines.device import summing_dtype


@dataclass(frozen=True, kw_only=True)
class Observation:
    """One micro-batch; losses are its share of the step's loss, their graph is kept."""

    task: torch.Tensor
    """The task's loss, a scalar."""
    auxiliary: torch.Tensor | None
    """The unimodal heads' losses with their weight, a scalar; None if their weight is 0."""
    statistics: torch.Tensor | None
    """The statistical loss with its weight, which is never scaled; None if its weight is 0."""
    features: Mapping[str, torch.Tensor]  # where norms are measured, as for `ConflictPenalty.observe`
    outputs: Outputs  # of each encoder, as for `Scaling.keep`
    errors: Mapping[str, torch.Tensor]  # |ŷ_m − y_m| of the unimodal heads, (B,)
    weights: torch.Tensor  # the clips' weights, (B,)
    loss_scale: float = 1.0  # the gradient scaler's scale in mixed precision


class Method:
    """Balances the modalities of each step of a training; this one leaves the gradients as they are."""

    def observe(self, observation: Observation) -> None:
        """Record a micro-batch before its backward pass."""

    def factors(self) -> dict[str, float]:
        """The factors of the encoders' gradients after the step so far; none if it does not use factors."""
        return {}

    def finish(self) -> None:
        """End a step, after the scaling."""

    def state_dict(self) -> dict[str, Any]:
        """The state for a checkpoint, taken between steps."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a checkpoint."""


class Scores:
    """Each modality's mean likelihood of the labels over a step's clips."""

    def __init__(self, all_reduce_sum: AllReduceSum = identity) -> None:
        self.all_reduce_sum = all_reduce_sum
        self.reset()

    def add(self, observation: Observation) -> None:
        """Add a micro-batch, weighted by the clips' weights."""
        dtype = summing_dtype(observation.weights.device)
        weights = observation.weights.to(dtype)
        likelihoods = [
            (weights * (-error.detach().to(dtype)).exp()).sum() for error in observation.errors.values()
        ]
        *sums, weight = self.all_reduce_sum(torch.stack([*likelihoods, weights.sum()])).tolist()
        for name, value in zip(observation.errors, sums, strict=True):
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._weight += weight

    def means(self) -> dict[str, float]:
        """Mean likelihoods by modality, in (0, 1]; empty before the first clip."""
        return {name: value / self._weight for name, value in self._sums.items()} if self._weight else {}

    def reset(self) -> None:
        """Start the next step."""
        self._sums: dict[str, float] = {}
        self._weight = 0.0

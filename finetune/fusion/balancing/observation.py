"""What a micro-batch shows of its modalities before its backward pass, by which methods balance them.

OGM-GE and CGGM judge a modality by how well it classifies alone. A rating's counterpart of the
probability of the right class is, by our choice, the likelihood exp(−|ŷ_m − y_m|) of the label under
a Laplace distribution of scale 1 around the unimodal head's rating: L1 is its negative logarithm,
as cross-entropy is that of the probability.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from finetune.fusion.distributed import Total, alone
from finetune.fusion.gradient_scaling import Outputs
from pipelines.device import summing_dtype


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Of one micro-batch; losses are its share of the step's, their graph is kept."""

    task: torch.Tensor
    """The task's loss, a scalar."""
    auxiliary: torch.Tensor | None
    """The unimodal heads' losses with their weight, a scalar; None where they have no weight."""
    statistics: torch.Tensor | None
    """The statistical loss with its weight, which is never scaled; None where it has no weight."""
    features: Mapping[str, torch.Tensor]
    """What the norms are taken at, as `ConflictPenalty.observe` has it."""
    outputs: Outputs
    """What leaves each encoder, as `Scaling.keep` has it."""
    errors: Mapping[str, torch.Tensor]
    """|ŷ_m − y_m| of the unimodal heads, (B,)."""
    weights: torch.Tensor
    """Of the clips, (B,)."""
    loss_scale: float = 1.0
    """The gradient scaler's scale in mixed precision."""


class Method(Protocol):
    """Balances the modalities of a step; an instance lives as long as a training."""

    def observe(self, evidence: Evidence) -> None:
        """Take a micro-batch in, before its backward pass."""

    def factors(self) -> dict[str, float]:
        """What encoders' gradients are multiplied by, by the step so far; none where not by a factor."""

    def finish(self) -> None:
        """End a step, behind the scaling."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs, taken between steps."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint."""


class Scores:
    """Each modality's mean likelihood of the labels over a step's clips."""

    def __init__(self, total: Total = alone) -> None:
        self.total = total
        self.forget()

    def add(self, evidence: Evidence) -> None:
        """Take a micro-batch in; a clip counts as its weight says."""
        kind = summing_dtype(evidence.weights.device)
        weights = evidence.weights.to(kind)
        likelihoods = [
            (weights * (-error.detach().to(kind)).exp()).sum() for error in evidence.errors.values()
        ]
        *sums, weight = self.total(torch.stack([*likelihoods, weights.sum()])).tolist()
        for name, value in zip(evidence.errors, sums, strict=True):
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._weight += weight

    def means(self) -> dict[str, float]:
        """By modality, in (0, 1]; none before the first clip."""
        return {name: value / self._weight for name, value in self._sums.items()} if self._weight else {}

    def forget(self) -> None:
        """Begin the next step."""
        self._sums: dict[str, float] = {}
        self._weight = 0.0

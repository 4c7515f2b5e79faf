"""OGM-GE: the better a modality does alone, the slower its encoder; and noise.

    ρ_u = s_u / mean of the other modalities' scores
    k_u = 1 − tanh(α ρ_u) where ρ_u > 1, else 1
    grad(θ_u) ← k_u grad(θ_u) + ε,  ε normal with the spread of the parameter's own gradient

References:
    Peng et al. 2022, Balanced Multimodal Learning via On-the-fly Gradient Modulation, CVPR. Differs:
    s_u is the likelihood of the labels (`finetune.fusion.balancing.observation`) and not of classes; it
    is the unimodal heads' and not that of a modality's share in one linear head; with three modalities
    ρ is over the mean of the others; the noise has its own generator, so that all processes draw the
    same; gradients of the statistical loss are not scaled.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from finetune.conflict import ratios
from finetune.fusion.balancing.observation import Evidence, Scores
from finetune.fusion.distributed import Total, alone
from finetune.fusion.gradient_scaling import Encoders

# Below it, an encoder counts as stopped when its gradients' spread before the scaling is looked for.
SMALLEST_FACTOR = 1e-6


class OgmGe:
    """A `Method`.

    Args:
        encoders: Each modality's parameters.
        alpha: α, above 0.
        seed: Of the noise.
        total: Sums over processes.
    """

    def __init__(self, encoders: Encoders, *, alpha: float, seed: int, total: Total = alone) -> None:
        self.encoders, self.alpha = encoders, alpha
        self.scores = Scores(total)
        self.noise = torch.Generator().manual_seed(seed)

    def observe(self, evidence: Evidence) -> None:
        """Take the scores of a micro-batch."""
        self.scores.add(evidence)

    def factors(self) -> dict[str, float]:
        """k_u of the step so far."""
        return {
            name: 1 - math.tanh(self.alpha * ratio) if ratio > 1 else 1.0
            for name, ratio in ratios(self.scores.means()).items()
        }

    def finish(self) -> None:
        """Add the noise."""
        factors = self.factors()
        for name, parameters in self.encoders.items():
            for parameter in parameters:
                if parameter.grad is not None and parameter.grad.numel() > 1:
                    drawn = torch.randn(parameter.shape, generator=self.noise).to(parameter.grad)
                    # The spread that the gradient had before it was scaled.
                    parameter.grad.add_(
                        drawn * parameter.grad.std() / max(factors.get(name, 1.0), SMALLEST_FACTOR)
                    )
        self.scores.forget()

    def state_dict(self) -> dict[str, Any]:
        """The noise's generator."""
        return {"noise": self.noise.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with the same noise."""
        self.noise.set_state(state["noise"])
        self.scores.forget()

"""OGM-GE: the better a modality does alone, the slower its encoder learns; plus noise on the gradients.

    ρ_u = s_u / mean of the other modalities' scores
    k_u = 1 − tanh(α ρ_u) if ρ_u > 1, else 1
    grad(θ_u) ← k_u grad(θ_u) + ε,  ε normal with the standard deviation of the parameter's own gradient

References:
    Peng et al. 2022, Balanced Multimodal Learning via On-the-fly Gradient Modulation, CVPR. Differs:
    s_u is the likelihood of the labels (`finetune.fusion.balancing.observation`), not of classes, under the
    unimodal heads, not under a modality's share in one linear head; with three modalities ρ is relative to
    the mean of the others; the noise has its own generator, so that all processes draw the same; gradients
    of the statistical loss are not scaled.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from finetune.fusion.balancing.observation import Method, Observation, Scores
from finetune.fusion.distributed import AllReduceSum, identity
from finetune.fusion.gradient_scaling import Encoders
from finetune.gradient_norms import ratios

# Limits the division that undoes the scaling, for an encoder whose factor is almost 0.
SMALLEST_FACTOR = 1e-6


class OgmGe(Method):
    """The method.

    Args:
        encoders: Each modality's parameters.
        alpha: α, above 0.
        seed: Seed of the noise.
        all_reduce_sum: Sums over processes.
    """

    def __init__(
        self, encoders: Encoders, *, alpha: float, seed: int, all_reduce_sum: AllReduceSum = identity
    ) -> None:
        self.encoders, self.alpha = encoders, alpha
        self.scores = Scores(all_reduce_sum)
        self.noise = torch.Generator().manual_seed(seed)

    def observe(self, observation: Observation) -> None:
        """Record the scores of a micro-batch."""
        self.scores.add(observation)

    def factors(self) -> dict[str, float]:
        """k_u after the step so far."""
        return {
            name: 1 - math.tanh(self.alpha * ratio) if ratio > 1 else 1.0
            for name, ratio in ratios(self.scores.means()).items()
        }

    def finish(self) -> None:
        """Add the noise."""
        factors = self.factors()
        for name, parameters in self.encoders.items():
            factor = max(factors.get(name, 1.0), SMALLEST_FACTOR)
            for parameter in parameters:
                if parameter.grad is not None and parameter.grad.numel() > 1:
                    noise = torch.randn(parameter.shape, generator=self.noise).to(parameter.grad)
                    # The deviation that the gradient had before it was scaled.
                    parameter.grad.add_(noise * parameter.grad.std() / factor)
        self.scores.reset()

    def state_dict(self) -> dict[str, Any]:
        """The noise's generator."""
        return {"noise": self.noise.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue with the same noise."""
        self.noise.set_state(state["noise"])

"""Muon, an optimizer that needs fewer steps than Adam where computing is scarce.

The momentum of a weight matrix is replaced by the nearest orthogonal matrix (five Newton-Schulz
steps, in bfloat16), so that all its directions are learnt equally fast. Kernels count as matrices,
outputs x the rest.

References:
    Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks".
"""

from __future__ import annotations

from collections.abc import Iterable

import torch


class Muon(torch.optim.Optimizer):
    """For weights with two or more dimensions inside a network; others are left to Adam.

    Args:
        parameters: The weights.
        lr: Spectral norm of a step of a square matrix.
        momentum: Nesterov momentum.
    """

    def __init__(self, parameters: Iterable[torch.nn.Parameter], lr: float, momentum: float = 0.95) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Take a step."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._step_one(weight, weight.grad, group["lr"], group["momentum"])

    def _step_one(self, weight: torch.Tensor, gradient: torch.Tensor, lr: float, momentum: float) -> None:
        state = self.state[weight]
        if not state:
            state["mean"] = torch.zeros_like(weight)
        state["mean"].lerp_(gradient, 1 - momentum)
        step = orthogonal(gradient.lerp(state["mean"], momentum).flatten(1))
        stretch = max(1.0, step.shape[0] / step.shape[1]) ** 0.5
        weight.add_(step.view_as(weight), alpha=-lr * stretch)


def orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """About the nearest matrix whose singular values are 1 (they end within 0.7 and 1.2), (m, n)."""
    tall = matrix.shape[0] > matrix.shape[1]
    x = (matrix.mT if tall else matrix).bfloat16()
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        square = x @ x.mT
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return (x.mT if tall else x).float()

"""Muon for convolutional networks: torch's takes only matrices; here kernels are treated as matrices.

It needs fewer steps than Adam, which matters on CPUs.

References:
    Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks".
"""

from __future__ import annotations

from collections.abc import Iterable

import torch


class Muon(torch.optim.Muon):
    """For inner weights with two or more dimensions; use Adam for the others.

    Args:
        weights: Contiguous. A kernel is treated as a matrix, outputs x the rest.
        lr: Spectral norm of a step of a square matrix.
    """

    def __init__(self, weights: Iterable[torch.nn.Parameter], lr: float) -> None:
        self._weights = list(weights)
        # Views, so that a step of a matrix updates the weight whose memory it shares.
        matrices = [torch.nn.Parameter(weight.detach().view(len(weight), -1)) for weight in self._weights]
        super().__init__(matrices, lr, weight_decay=0.0)

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Take a step along the weights' gradients."""
        for weight, matrix in zip(self._weights, self.param_groups[0]["params"], strict=True):
            matrix.grad = None if weight.grad is None else weight.grad.reshape(matrix.shape)
        super().step(closure)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the weights' gradients."""
        for weight in self._weights:
            weight.grad = None

"""Scales encoders' gradients by factors, except those of one part of the loss.

    g = g_exempt + k (g_rest)

If the factors are known before the backward pass, an encoder needs no pass of its own for the exempt part:
the gradients of its parameters are linear in those at its outputs, so scaling there scales both. Otherwise
the exempt part's gradients are computed apart and restored afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from finetune.fusion.distributed import AllReduceSum, identity, sum_in_place

Encoders = Mapping[str, Sequence[torch.nn.Parameter]]
Outputs = Mapping[str, Sequence[torch.Tensor]]


class Scaling:
    """Scales encoders' gradients, a part of the loss excepted.

    Args:
        accumulation: Micro-batches in a step. With one, factors are known before the backward pass.
        all_reduce_sum: Sums over processes; gradients are summed before `apply`.
    """

    def __init__(self, accumulation: int = 1, all_reduce_sum: AllReduceSum = identity) -> None:
        self.accumulation, self.all_reduce_sum = accumulation, all_reduce_sum
        self._reset()

    def keep(
        self,
        loss: torch.Tensor,
        factors: Mapping[str, float],
        encoders: Encoders,
        *,
        outputs: Outputs | None = None,
        loss_scale: float = 1.0,
    ) -> None:
        """Exempt a part of a micro-batch's loss, before its backward pass.

        Args:
            loss: The exempt part, with its weight in the whole loss; its graph is kept.
            factors: Factors of the encoders that may be scaled, as far as they are known.
            encoders: Each modality's parameters.
            outputs: The tensors through which all of a loss reaches an encoder, none computed from
                another; without them, a conflict costs a pass through the encoder.
            loss_scale: The gradient scaler's scale in mixed precision.
        """
        for name, factor in factors.items():
            if self.accumulation > 1 or (factor != 1.0 and outputs is None):
                self._keep(name, loss, list(encoders[name]), loss_scale)
            elif factor != 1.0 and outputs is not None:
                self._scale_in_passing(name, loss, list(outputs[name]), factor, loss_scale)

    def apply(self, encoders: Encoders, factors: Mapping[str, float]) -> None:
        """End a step: scale gradients in place, unless the backward pass has scaled them."""
        kept = [each for own in self._kept.values() for each in own if each is not None]
        sum_in_place(kept, self.all_reduce_sum)
        for name, factor in factors.items():
            if factor != 1.0 and name not in self._in_passing:
                self._scale(encoders[name], self._kept.get(name), factor)
        self._reset()

    def _reset(self) -> None:
        self._kept: dict[str, list[torch.Tensor | None]] = {}
        self._in_passing: set[str] = set()

    def _keep(
        self, name: str, loss: torch.Tensor, parameters: list[torch.nn.Parameter], loss_scale: float
    ) -> None:
        gradients = torch.autograd.grad(loss * loss_scale, parameters, retain_graph=True, allow_unused=True)
        kept = self._kept.setdefault(name, [None] * len(parameters))
        for index, gradient in enumerate(gradients):
            if gradient is not None:
                before = kept[index]
                kept[index] = gradient / loss_scale + (0 if before is None else before)

    def _scale_in_passing(
        self, name: str, loss: torch.Tensor, outputs: list[torch.Tensor], factor: float, loss_scale: float
    ) -> None:
        """grad ← k grad + (1 − k) grad_exempt, at the encoder's outputs."""
        gradients = torch.autograd.grad(loss * loss_scale, outputs, retain_graph=True, allow_unused=True)
        for output, exempt in zip(outputs, gradients, strict=True):

            def scaled(gradient: torch.Tensor, exempt: torch.Tensor | None = exempt) -> torch.Tensor:
                if exempt is None:
                    return gradient * factor
                return torch.lerp(exempt.to(gradient.dtype), gradient, factor)

            output.register_hook(scaled)
        self._in_passing.add(name)

    @staticmethod
    def _scale(
        parameters: Sequence[torch.nn.Parameter], kept: list[torch.Tensor | None] | None, factor: float
    ) -> None:
        """grad ← k (grad − kept) + kept."""
        for parameter, exempt in zip(parameters, kept or [None] * len(parameters), strict=True):
            if parameter.grad is not None:
                parameter.grad.mul_(factor)
                if exempt is not None:
                    parameter.grad.add_(exempt.to(parameter.grad.dtype), alpha=1 - factor)

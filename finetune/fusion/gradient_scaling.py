"""Encoders' gradients times factors, with a part of the loss left out of it.

    g = g_exempt + k (g_rest)

Where the factors are known before the backward pass, an encoder needs no pass of its own for the
exempt part: what goes back into the encoder is linear in what comes to its outputs, so that scaling
there, on the way, is scaling its parameters' gradients. Else the exempt part's gradients are kept
apart and put back afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from finetune.fusion.distributed import Total, alone, sum_in_place

Encoders = Mapping[str, Sequence[torch.nn.Parameter]]
Outputs = Mapping[str, Sequence[torch.Tensor]]


class Scaling:
    """Scales encoders' gradients, a part of the loss excepted.

    Args:
        accumulation: Micro-batches in a step. With one, factors are known before the backward pass.
        total: Sums over processes; gradients are summed before `apply`.
    """

    def __init__(self, accumulation: int = 1, total: Total = alone) -> None:
        self.accumulation, self.total = accumulation, total
        self._forget_step()

    def keep(
        self,
        loss: torch.Tensor,
        factors: Mapping[str, float],
        encoders: Encoders,
        *,
        outputs: Outputs | None = None,
        loss_scale: float = 1.0,
    ) -> None:
        """Except a part of a micro-batch's loss, before its backward pass.

        Args:
            loss: The exempt part, with its weight, as it stands in the whole loss; its graph is kept.
            factors: Of the encoders that may be scaled, as far as they are known.
            encoders: Each modality's parameters.
            outputs: The tensors by which all of a loss reaches an encoder, none of them made of
                another; without, a conflict costs a pass through the encoder.
            loss_scale: The gradient scaler's scale in mixed precision.
        """
        for name, factor in factors.items():
            if self.accumulation > 1 or (factor != 1.0 and outputs is None):
                self._keep(name, loss, list(encoders[name]), loss_scale)
            elif factor != 1.0 and outputs is not None:
                self._scale_in_passing(name, loss, list(outputs[name]), factor, loss_scale)

    def apply(self, encoders: Encoders, factors: Mapping[str, float]) -> None:
        """End a step: scale gradients in place, where that has not happened in passing."""
        sum_in_place([each for kept in self._kept.values() for each in kept if each is not None], self.total)
        for name, factor in factors.items():
            if factor != 1.0 and name not in self._in_passing:
                self._scale(encoders[name], self._kept.get(name), factor)
        self._forget_step()

    def _forget_step(self) -> None:
        self._kept: dict[str, list[torch.Tensor | None]] = {}
        self._in_passing: set[str] = set()

    def _keep(
        self, name: str, loss: torch.Tensor, parameters: list[torch.nn.Parameter], loss_scale: float
    ) -> None:
        found = torch.autograd.grad(loss * loss_scale, parameters, retain_graph=True, allow_unused=True)
        kept = self._kept.setdefault(name, [None] * len(parameters))
        for index, gradient in enumerate(found):
            if gradient is not None:
                before = kept[index]
                kept[index] = gradient / loss_scale + (0 if before is None else before)

    def _scale_in_passing(
        self, name: str, loss: torch.Tensor, outputs: list[torch.Tensor], factor: float, loss_scale: float
    ) -> None:
        """grad ← k grad + (1 − k) grad_exempt, at the encoder's outputs."""
        found = torch.autograd.grad(loss * loss_scale, outputs, retain_graph=True, allow_unused=True)
        for output, exempt in zip(outputs, found, strict=True):
            output.register_hook(
                lambda gradient, exempt=exempt: (
                    gradient * factor
                    if exempt is None
                    else torch.lerp(exempt.to(gradient.dtype), gradient, factor)
                )
            )
        self._in_passing.add(name)

    @staticmethod
    def _scale(
        parameters: Sequence[torch.nn.Parameter], kept: list[torch.Tensor | None] | None, factor: float
    ) -> None:
        """grad ← k (grad − kept) + kept."""
        apart = kept or [None] * len(parameters)
        for parameter, exempt in zip(parameters, apart, strict=True):
            if parameter.grad is None:
                continue
            parameter.grad.mul_(factor)
            if exempt is not None:
                parameter.grad.add_(exempt.to(parameter.grad.dtype), alpha=1 - factor)

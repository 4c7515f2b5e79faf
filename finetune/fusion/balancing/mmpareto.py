"""MMPareto: of the multimodal and the unimodal gradient of an encoder, a direction that serves both.

    g, u    an encoder's gradients of the task's loss and of the unimodal heads'
    (a, b)  (½, ½) where cos(g, u) > 0, else those of the shortest a g + b u with a + b = 1, a, b ≥ 0
    grad    γ · max(1, ‖g + u‖ / ‖2 a g + 2 b u‖) · (2 a g + 2 b u), in the place of g + u

References:
    Wei & Hu 2024, MMPareto: Boosting Multimodal Learning with Innocent Unimodal Assistance, ICML;
    γ 1.5; the (½, ½) and the shortest sum as in KAN-MCP too. Differs: lengths are those of a whole
    encoder's gradient and not of each of its parameters'; gradients of the other parts of the loss,
    the statistical loss among them, are added as they are. Published with unimodal losses that count as
    much as the task's (`losses.auxiliary` 1).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from finetune.fusion.balancing.observation import Evidence
from finetune.fusion.distributed import Total, alone, sum_in_place
from finetune.fusion.gradient_scaling import Encoders


class MMPareto:
    """A `Method`. It costs two more passes through every encoder.

    Args:
        encoders: Each modality's parameters.
        gain: γ, above 0.
        total: Sums over processes.
    """

    def __init__(self, encoders: Encoders, *, gain: float, total: Total = alone) -> None:
        self.encoders = {name: list(parameters) for name, parameters in encoders.items()}
        self.gain, self.total = gain, total
        self._forget_step()

    def observe(self, evidence: Evidence) -> None:
        """Take both gradients of a micro-batch."""
        assert evidence.auxiliary is not None, "the settings demand a weight of the unimodal heads"
        parameters = [each for found in self.encoders.values() for each in found]
        for kept, loss in ((self._task, evidence.task), (self._unimodal, evidence.auxiliary)):
            found = torch.autograd.grad(
                loss * evidence.loss_scale, parameters, retain_graph=True, allow_unused=True
            )
            for parameter, gradient in zip(parameters, found, strict=True):
                if gradient is not None:
                    kept[parameter] = kept.get(parameter, 0) + gradient / evidence.loss_scale

    def factors(self) -> dict[str, float]:
        """None: it turns gradients."""
        return {}

    def finish(self) -> None:
        """Put the balanced gradients in the place of both."""
        if self._task:
            sum_in_place([*self._task.values(), *self._unimodal.values()], self.total)
        for parameters in self.encoders.values():
            self._balance([each for each in parameters if each.grad is not None])
        self._forget_step()

    def state_dict(self) -> dict[str, Any]:
        """Nothing: steps know nothing of each other."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint."""
        self._forget_step()

    def _balance(self, parameters: list[torch.nn.Parameter]) -> None:
        task, unimodal = (
            torch.cat([kept.get(each, torch.zeros_like(each)).flatten() for each in parameters])
            for kept in (self._task, self._unimodal)
        )
        change = balanced(task, unimodal, self.gain) - task - unimodal
        for parameter, own in zip(
            parameters, change.split([each.numel() for each in parameters]), strict=True
        ):
            assert parameter.grad is not None
            parameter.grad.add_(own.view_as(parameter).to(parameter.grad))

    def _forget_step(self) -> None:
        self._task: dict[torch.nn.Parameter, torch.Tensor] = {}
        self._unimodal: dict[torch.nn.Parameter, torch.Tensor] = {}


def balanced(task: torch.Tensor, unimodal: torch.Tensor, gain: float) -> torch.Tensor:
    """What takes the place of g + u: vectors of one size."""
    share = task_share(task, unimodal)
    turned = 2 * share * task + 2 * (1 - share) * unimodal
    length = turned.norm()
    longer = ((task + unimodal).norm() / length).clamp_min(1) if length > 0 else 1.0
    return gain * longer * turned


def task_share(task: torch.Tensor, unimodal: torch.Tensor) -> float:
    """a, the weight of g: ½ where the two agree, else that of the shortest a g + (1 − a) u."""
    product = float(task @ unimodal)
    if product > 0:
        return 0.5
    apart = float((task - unimodal) @ (task - unimodal))
    if not apart:  # both are 0
        return 0.5
    return min(1.0, max(0.0, (float(unimodal @ unimodal) - product) / apart))

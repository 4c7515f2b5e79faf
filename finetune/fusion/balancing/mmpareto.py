"""MMPareto: replaces an encoder's multimodal and unimodal gradients by a direction that serves both.

    g, u    an encoder's gradients of the task's loss and of the unimodal heads' losses
    (a, b)  (½, ½) if cos(g, u) > 0, else those of the shortest a g + b u with a + b = 1, a, b ≥ 0
    grad    γ · max(1, ‖g + u‖ / ‖2 a g + 2 b u‖) · (2 a g + 2 b u), instead of g + u

References:
    Wei & Hu 2024, MMPareto: Boosting Multimodal Learning with Innocent Unimodal Assistance, ICML;
    γ 1.5; the (½, ½) and the shortest sum as in KAN-MCP. Differs: lengths are those of a whole encoder's
    gradient, not of each parameter's; gradients of the other parts of the loss, the statistical loss among
    them, are added as they are. Published with unimodal losses of the same weight as the task's
    (`losses.auxiliary` 1).
"""

from __future__ import annotations

import torch

from finetune.fusion.balancing.observation import Method, Observation
from finetune.fusion.distributed import AllReduceSum, identity, sum_in_place
from finetune.fusion.gradient_scaling import Encoders


class MMPareto(Method):
    """The method. It costs two more passes through every encoder, and keeps nothing from step to step.

    Args:
        encoders: Each modality's parameters.
        gain: γ, above 0.
        all_reduce_sum: Sums over processes.
    """

    def __init__(self, encoders: Encoders, *, gain: float, all_reduce_sum: AllReduceSum = identity) -> None:
        self.encoders, self.gain, self.all_reduce_sum = encoders, gain, all_reduce_sum
        self._reset()

    def observe(self, observation: Observation) -> None:
        """Record both gradients of a micro-batch."""
        assert observation.auxiliary is not None, "the settings demand a weight of the unimodal heads"
        scale = observation.loss_scale
        parameters = [each for own in self.encoders.values() for each in own]
        for kept, loss in ((self._task, observation.task), (self._unimodal, observation.auxiliary)):
            gradients = torch.autograd.grad(loss * scale, parameters, retain_graph=True, allow_unused=True)
            for parameter, gradient in zip(parameters, gradients, strict=True):
                if gradient is not None:
                    kept[parameter] = kept.get(parameter, 0) + gradient / scale

    def finish(self) -> None:
        """Replace both gradients by the balanced one."""
        if self._task:
            sum_in_place([*self._task.values(), *self._unimodal.values()], self.all_reduce_sum)
        for parameters in self.encoders.values():
            self._balance([each for each in parameters if each.grad is not None])
        self._reset()

    def _balance(self, parameters: list[torch.nn.Parameter]) -> None:
        task, unimodal = (
            torch.cat([kept.get(each, torch.zeros_like(each)).flatten() for each in parameters])
            for kept in (self._task, self._unimodal)
        )
        change = balanced(task, unimodal, self.gain) - task - unimodal
        sizes = [each.numel() for each in parameters]
        for parameter, own in zip(parameters, change.split(sizes), strict=True):
            assert parameter.grad is not None
            parameter.grad.add_(own.view_as(parameter).to(parameter.grad))

    def _reset(self) -> None:
        self._task: dict[torch.nn.Parameter, torch.Tensor] = {}
        self._unimodal: dict[torch.nn.Parameter, torch.Tensor] = {}


def balanced(task: torch.Tensor, unimodal: torch.Tensor, gain: float) -> torch.Tensor:
    """The gradient that replaces g + u; all are vectors of one size."""
    share = task_share(task, unimodal)
    turned = 2 * share * task + 2 * (1 - share) * unimodal
    length = turned.norm()
    longer = ((task + unimodal).norm() / length).clamp_min(1) if length > 0 else 1.0
    return gain * longer * turned


def task_share(task: torch.Tensor, unimodal: torch.Tensor) -> float:
    """a, the weight of g: ½ if the two agree, else that of the shortest a g + (1 − a) u."""
    product = float(task @ unimodal)
    if product > 0:
        return 0.5
    apart = float((task - unimodal) @ (task - unimodal))
    if not apart:  # both are 0
        return 0.5
    return min(1.0, max(0.0, (float(unimodal @ unimodal) - product) / apart))

"""The conflict-aware penalty (CP): keeps one modality from dominating the training of the others.

Only the abstract of the method (arXiv:2605.28575) is public: gradient norms of the modalities conflict, each
training step detects and penalizes that, and the statistical loss is exempt. The formulas here are ours.

    n_m   norm of ∂L_task/∂h_m at the feature h_m of modality m, mean over the batch, averaged
          over steps with decay β
    r_m   n_m / mean of the other modalities' norms
    k_m   of the dominant modality max(floor, 1 − tanh(α (r_m/τ − 1))) if r_m > τ, else 1

`finetune.gradient_norms` computes r_m and k_m. The penalty needs only the features of the modalities and the
parameters of their encoders:

    for micro_batch in step:
        penalty.observe(task_loss, features)
        penalty.keep(statistical_loss, encoders, outputs=outputs)    # only if a part is exempt
        loss.backward()                             # the whole loss, the exempt part too
    (unscale the gradients)
    penalty.apply(encoders)
    (clip; optimizer step)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from finetune.fusion.distributed import AllReduceSum, identity
from finetune.fusion.gradient_scaling import Encoders, Outputs, Scaling
from finetune.gradient_norms import Conflict, ConflictSettings, judged
from pipelines.device import summing_dtype


class ConflictPenalty:
    """Detects a conflict of gradient norms at each step and scales the dominant encoder's gradients.

    Args:
        threshold: τ, at least 1: the ratio above which there is a conflict.
        alpha: α, above 0: how steeply the penalty grows with the ratio.
        floor: The smallest factor, in (0, 1].
        decay: β in [0, 1): the weight of the earlier norms in the average; 0 averages nothing.
        start_epoch: The first epoch, counted from 0, with a penalty.
        end_epoch: The first epoch without it again; None for no end.
        accumulation: Micro-batches in a step. With one, the factors are known before the backward
            pass, and `keep` costs nothing without a conflict; with more it always costs a pass.
        all_reduce_sum: Sums over the processes that train together; the norms are those of all.

    Raises:
        ValueError: If a value is out of its range.
    """

    def __init__(
        self,
        *,
        threshold: float = 2.0,
        alpha: float = 0.5,
        floor: float = 0.1,
        decay: float = 0.9,
        start_epoch: int = 0,
        end_epoch: int | None = None,
        accumulation: int = 1,
        all_reduce_sum: AllReduceSum = identity,
    ) -> None:
        ConflictSettings(  # checks the ranges
            threshold=threshold,
            alpha=alpha,
            floor=floor,
            decay=decay,
            start_epoch=start_epoch,
            end_epoch=end_epoch,
        )
        self.threshold, self.alpha, self.floor, self.decay = threshold, alpha, floor, decay
        self.start_epoch, self.end_epoch = start_epoch, end_epoch
        self.all_reduce_sum = all_reduce_sum
        self.scaling = Scaling(accumulation, all_reduce_sum)
        self.epoch = 0
        self.averages: dict[str, float] = {}
        self._forget_step()

    @property
    def active(self) -> bool:
        """Whether this epoch has a penalty."""
        return self.start_epoch <= self.epoch and (self.end_epoch is None or self.epoch < self.end_epoch)

    def begin_epoch(self, epoch: int) -> None:
        """Set the epoch, counted from 0."""
        self.epoch = epoch

    def observe(
        self, task_loss: torch.Tensor, features: Mapping[str, torch.Tensor], *, loss_scale: float = 1.0
    ) -> None:
        """Record the gradient norms of a micro-batch, before its backward pass.

        Args:
            task_loss: The task's part of the loss, a scalar; its graph is kept.
            features: Each modality's feature h_m, (B, width), or a sequence of them, (B, steps,
                width). The gradient of a sequence is that of a shift common to all its steps, so that
                long sequences count no more than short ones (ours).
            loss_scale: The gradient scaler's scale in mixed precision, so that small gradients do not
                underflow; the norms are divided by it.

        Raises:
            ValueError: If the loss does not depend on a feature.
        """
        names = list(features)
        gradients = torch.autograd.grad(
            task_loss * loss_scale, list(features.values()), retain_graph=True, allow_unused=True
        )
        for name, gradient in zip(names, gradients, strict=True):
            if gradient is None:
                raise ValueError(f"features: the task loss does not depend on that of {name!r}")
        norms = torch.stack([_row_norms(gradient) for gradient in gradients])  # (modalities, B)
        # A clip of weight 0 has no gradient and does not count.
        counted = (norms > 0).any(0).sum()
        dtype = summing_dtype(norms.device)
        sums = self.all_reduce_sum(torch.cat([norms.to(dtype).sum(1) / loss_scale, counted[None].to(dtype)]))
        *values, rows = sums.tolist()
        for name, value in zip(names, values, strict=True):
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._rows += rows

    def keep(
        self,
        loss: torch.Tensor,
        encoders: Encoders,
        *,
        outputs: Outputs | None = None,
        loss_scale: float = 1.0,
    ) -> None:
        """Exempt a part of the loss from the penalty; after `observe`.

        Args:
            loss: The exempt part, with its weight in the whole loss; its graph is kept.
            encoders: Each modality's parameters, as for `apply`.
            outputs: Each encoder's outputs, as for `Scaling.keep`; they make a conflict cheap.
            loss_scale: As for `observe`.
        """
        if self.active:
            factors = self.detect().factors
            self.scaling.keep(loss, factors, encoders, outputs=outputs, loss_scale=loss_scale)

    def detect(self) -> Conflict:
        """The conflict of the micro-batches since the last `apply`; changes nothing."""
        return judged(self._norms(), self.threshold, self.alpha, self.floor, scales=self.active)

    def apply(self, encoders: Encoders) -> Conflict:
        """End a step: scale the dominant encoder's gradients in place, except those of the exempt part.

        Call it after the backward passes and the unscaling, before clipping and the optimizer.
        """
        conflict = self.detect()
        self.scaling.apply(encoders, conflict.factors)
        self.averages = conflict.norms
        self._forget_step()
        return conflict

    def state_dict(self) -> dict[str, Any]:
        """The state for a checkpoint, taken between steps."""
        return {"epoch": self.epoch, "averages": dict(self.averages)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a checkpoint."""
        self.epoch, self.averages = int(state["epoch"]), dict(state["averages"])
        self._forget_step()

    def _forget_step(self) -> None:
        self._sums: dict[str, float] = {}
        self._rows = 0.0

    def _norms(self) -> dict[str, float]:
        """The averages after this step; those before it if this step's norms overflowed."""
        means = {name: value / max(1.0, self._rows) for name, value in self._sums.items()}
        if not means or not all(map(math.isfinite, means.values())):
            return dict(self.averages)
        return {
            name: self.decay * self.averages.get(name, value) + (1 - self.decay) * value
            for name, value in means.items()
        }


def _row_norms(gradient: torch.Tensor) -> torch.Tensor:
    """Norm of each row's gradient, steps summed: (B, ..., width) -> (B,)."""
    rows = gradient.float()
    return (rows.flatten(1, -2).sum(1) if rows.dim() > 2 else rows).norm(dim=-1)

"""Ends a diverging training before the optimizer takes a step that cannot be undone, and says where.

The watched values stay on the device and are checked once in an optimizer step, so that micro-batches do not
wait for them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate.state import AcceleratorState
from accelerate.utils import gather_object, reduce
from torch import Tensor
from transformers import TrainerCallback

from finetune.model.heads import Answer
from pipelines.errors import RunError, listed

Recorded = tuple[Tensor, Tensor]
"""The row indices of a micro-batch, and whether their losses are finite, both (B,), on the device."""


class Diverged(RunError):
    """A loss, a gradient, a weight or a rating that is not finite. The message names the rows."""


class DivergenceWatch(TrainerCallback):
    """Ends a training with the first loss, gradient or weight that is not finite.

    Args:
        model: The trained model.
        ids: The ids of the training rows, by their index.
        newest: Returns the newest complete checkpoint; None if there is none.
    """

    def __init__(self, model: torch.nn.Module, ids: Sequence[str], newest: Callable[[], Path | None]) -> None:
        self.model, self.ids, self.newest = model, ids, newest
        self._current: list[Recorded] = []
        self._before: list[Recorded] = []

    def record(self, rows: Tensor, losses: Tensor) -> None:
        """Record a micro-batch of the current step: the rows' indices and their own losses, both (B,)."""
        self._current.append((rows, losses.detach().isfinite()))

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Check the losses and gradients of the step, and the weights that the step before left.

        Raises:
            Diverged: In all processes, if anything is not finite in any of them.
        """
        step, current, before = state.global_step + 1, self._current, self._before
        self._current, self._before = [], current
        losses = [finite for _, finite in current]
        # With float16, gradients are scaled, and the scaler skips steps that overflow.
        scaled = AcceleratorState._shared_state.get("_mixed_precision") == "fp16"
        gradients = [value.grad for value in self._trained() if value.grad is not None and not scaled]
        weights_are, losses_are, gradients_are = _everywhere(
            [_finite([*self._trained()]), torch.cat(losses).all() if losses else None, _finite(gradients)],
            args.device,
        )
        if not weights_are:
            self._end("a weight", step - 1, before)
        if not losses_are:
            self._end("the loss", step, [(rows[~finite], finite) for rows, finite in current])
        if not gradients_are:
            self._end("a gradient", step, current)

    def check_weights(self, step: int, device: torch.device) -> None:
        """Check the weights before they are written.

        Raises:
            Diverged: In all processes, if one is not finite in any of them.
        """
        if not all(_everywhere([_finite([*self._trained()])], device)):
            self._end("a weight", step, self._before)

    def _trained(self) -> list[torch.nn.Parameter]:
        return [value for value in self.model.parameters() if value.requires_grad]

    def _end(self, what: str, step: int, recorded: Sequence[Recorded]) -> None:
        own = [self.ids[row] for rows, _ in recorded for row in rows.tolist()]
        named = list(dict.fromkeys(gather_object(own)))
        checkpoint = self.newest()
        kept = f"{checkpoint} is the last complete checkpoint" if checkpoint else "there is no checkpoint yet"
        raise Diverged(
            f"finetune: {what} is not finite in step {step}, with the {rows_named(named)}; the training ends"
            f" before it is used, and {kept}; look at these rows, or lower finetune.learning_rate and"
            " finetune.head_learning_rate and begin in another --out"
        )


def check_ratings(model: Any, ids: Sequence[str], values: Sequence[Any]) -> None:
    """Refuse ratings or features of rows that are not finite, except those of a head that writes.

    Raises:
        Diverged: Naming the rows.
    """
    if isinstance(model.head, Answer):
        return  # its answer may be no number, which is counted
    bad = [row for row, value in zip(ids, values, strict=True) if not torch.tensor(value).isfinite().all()]
    if bad:
        raise Diverged(
            f"finetune: the model's output is not finite for the {rows_named(bad)}, so it has no rating;"
            " look at these rows, take an earlier checkpoint, or set finetune.precision to float32"
        )


def rows_named(ids: Sequence[str]) -> str:
    """Rows as a message names them."""
    return f"row{'s' if len(ids) > 1 else ''} {listed(ids, 8)}"


def _finite(values: Sequence[Tensor]) -> Tensor | None:
    """Whether all numbers that this process has of the tensors are finite; None if it has none."""
    from torch.distributed.tensor import DTensor

    own = [value.to_local() if isinstance(value, DTensor) else value for value in values]
    own = [value.detach() for value in own if value.numel()]
    return torch.nn.utils.get_total_norm(own).isfinite() if own else None


def _everywhere(flags: Sequence[Tensor | None], device: torch.device) -> list[bool]:
    """Which flags are set in all processes; None counts as set."""
    unset = [torch.zeros((), device=device) if flag is None else (~flag).float().to(device) for flag in flags]
    return [count == 0 for count in reduce(torch.stack(unset), reduction="sum").tolist()]

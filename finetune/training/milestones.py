"""When a training logs, evaluates, saves and ends.

A checkpoint of an epoch's last step is written after the epoch has been evaluated, so that resuming from it
misses no evaluation. SIGTERM ends the training after the current step.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import TrainerCallback, TrainerState

from pipelines.running.stop_signal import StopSignal


class Milestones(TrainerCallback):
    """Tells the Trainer at each step and each epoch's end what is due.

    Args:
        save_every: Optimizer steps between checkpoints.
        validates: Whether each epoch is evaluated, and then saved.
        patience: Epochs without a better evaluation after which training ends; None for all epochs.

    Attributes:
        signal: Is checked after each step.
        stopped: Whether a signal ended the training.
    """

    def __init__(self, save_every: int, validates: bool, patience: int | None) -> None:
        self.save_every, self.validates, self.patience = save_every, validates, patience
        self.signal = StopSignal()
        self.stopped = False

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.stopped = _on_any_rank(self.signal.came, args)
        control.should_training_stop |= self.stopped
        control.should_save = self._is_due(state) and not (self.stopped or _ends_epoch(state))
        # A log entry ends at each checkpoint, so that a resumed run logs the same as an uninterrupted one.
        control.should_log |= control.should_save

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        # The Trainer also calls this when it is stopped in the middle of an epoch.
        control.should_evaluate = self.validates and _ends_epoch(state)
        control.should_save = control.should_evaluate or control.should_training_stop or self._is_due(state)
        control.should_log |= control.should_save

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        control.should_training_stop |= self.patience_is_spent(state)

    def patience_is_spent(self, state: TrainerState) -> bool:
        """Whether the best evaluation is as many epochs ago as patience allows."""
        gainless = (state.global_step - (state.best_global_step or 0)) // steps_per_epoch(state)
        return self.patience is not None and gainless >= self.patience

    def _is_due(self, state: TrainerState) -> bool:
        return state.global_step % self.save_every == 0


def steps_per_epoch(state: TrainerState) -> int:
    """Optimizer steps of an epoch."""
    return state.max_steps // state.num_train_epochs


def _ends_epoch(state: TrainerState) -> bool:
    return state.global_step % steps_per_epoch(state) == 0


def _on_any_rank(flag: bool, args: Any) -> bool:
    """Whether the flag is set on any rank: all must leave at the same step."""
    if args.world_size == 1:
        return flag
    from accelerate.utils import reduce

    return bool(reduce(torch.tensor(float(flag), device=args.device), reduction="sum") > 0)

"""Trainings that die between two steps, as by SIGKILL: nothing that is pending is written."""

from __future__ import annotations

from typing import Any

import pytest

import finetune.run
from finetune.__main__ import main
from finetune.training.trainer import WeightedTrainer


class _Killed(BaseException):
    pass


def killed(arguments: list[str], steps: int) -> None:
    """Run `finetune`, and die after so many whole steps."""
    original = WeightedTrainer.training_step

    def training_step(trainer: WeightedTrainer, *args: Any, **kwargs: Any) -> Any:
        if trainer.state.global_step == steps:
            raise _Killed
        return original(trainer, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(_Killed):
        patch.setattr(WeightedTrainer, "training_step", training_step)
        patch.setattr(finetune.run, "flush", lambda encoder: None)
        main(arguments)

"""The trackers that a training is reported to, and the accelerator that computes it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.fusion.settings import TrainingSettings
from pipelines.device import check_bfloat16, pick
from pipelines.errors import UsageError

if TYPE_CHECKING:
    from accelerate import Accelerator

PROJECT = "daq-msa-fusion"  # as trackers know it


def make_accelerator(training: TrainingSettings, folder: Path) -> Accelerator:
    """The device, precision and trackers of a seed's training.

    Raises:
        UsageError: If the device does not support the configured precision.
    """
    from accelerate import Accelerator

    check_precision(training)
    return Accelerator(
        cpu=pick(training.device) == "cpu",
        mixed_precision=training.precision,
        log_with=list(training.trackers) or None,
        project_dir=folder,
    )


def check_precision(training: TrainingSettings) -> None:
    """Refuse a precision that the device does not support.

    Raises:
        UsageError: Naming the setting.
    """
    device = pick(training.device)
    if training.precision == "fp16" and device == "cpu":
        raise UsageError("fusion.training.precision: got fp16, which needs a GPU; take no or bf16")
    if training.precision == "bf16":
        check_bfloat16("fusion.training.precision: got bf16", device, "no or fp16")


def flat(record: dict[str, Any]) -> dict[str, float]:
    """`{"losses": {"task": 1.0}}` as `{"losses/task": 1.0}`; null values are left out."""
    leaves: dict[str, float | None] = {}
    for name, value in record.items():
        leaves |= (
            {f"{name}/{key}": each for key, each in value.items()}
            if isinstance(value, dict)
            else {name: value}
        )
    return {name: value for name, value in leaves.items() if name != "epoch" and value is not None}

"""The checkpoint that a training goes on from, and the first process' decisions, which all follow."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from transformers.trainer import TRAINER_STATE_NAME

from pipelines.checkpoints import MARKER, newest_whole, read_json_object, whole
from pipelines.device import share
from pipelines.errors import RunError, UsageError

Decision = TypeVar("Decision")


def agreed(decide: Callable[[], Decision]) -> Decision:
    """What the first process decides, in all processes; so is its refusal.

    Raises:
        RunError, UsageError: As `decide` does, in all processes.
    """
    decided: list[Any] = [None]
    if share().rank == 0:
        try:
            decided = [decide()]
        except (RunError, UsageError) as error:
            decided = [error]
    if share().processes > 1:
        from accelerate.utils import broadcast_object_list

        decided = broadcast_object_list(decided)
    if isinstance(decided[0], Exception):
        raise decided[0]
    return decided[0]


def newest_complete_checkpoint(directory: Path) -> Path | None:
    """The checkpoint to resume from; None to start anew."""
    return newest_whole(directory, "checkpoint-*", _usable)[0]


def checkpoint_to_resume(directory: Path, ranks: int) -> Path | None:
    """The newest complete checkpoint; says which newer ones are broken, and removes those.

    Left in place, they would count among the checkpoints that are kept, of which the oldest are removed.

    Raises:
        UsageError: If it was written by another number of processes than `ranks`. A step would have other
            rows in it, an epoch maybe other steps, and generators' states would be missing.
    """
    newest, broken = newest_whole(directory, "checkpoint-*", _usable)
    before = read_json_object(newest / MARKER)["ranks"] if newest else ranks
    if before != ranks:
        raise UsageError(
            f"--out: {newest} was written by {before} process(es), and {ranks} were started; go on"
            f" with `accelerate launch --num_processes {before}`, or remove {directory.parent} or choose"
            " another folder"
        )
    for path, problem in broken.items():
        print(f"finetune: {problem}; {path.name} is not used, and removed", flush=True)
        shutil.rmtree(path)
    if newest:
        print(f"finetune: goes on from {newest.name}", flush=True)
    elif broken:
        print("finetune: no complete checkpoint is left; the training begins anew", flush=True)
    return newest


def _usable(checkpoint: Path) -> None:
    """Refuse a checkpoint that is broken, or that knows a best epoch, to be loaded in the end, which is.

    Raises:
        Damaged: Naming the file.
    """
    whole(checkpoint)
    best = read_json_object(checkpoint / TRAINER_STATE_NAME).get("best_global_step")
    if best:
        whole(checkpoint.with_name(f"checkpoint-{best}"))

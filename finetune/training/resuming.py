"""The checkpoint that a training goes on from."""

from __future__ import annotations

import shutil
from pathlib import Path

from transformers.trainer import TRAINER_STATE_NAME

from pipelines.durable.checkpoints import MARKER, newest_whole, read_json_object, whole
from pipelines.errors import UsageError


def newest_complete_checkpoint(directory: Path) -> Path | None:
    """The checkpoint to resume from; None to start anew."""
    return newest_whole(directory, "checkpoint-*", _usable)[0]


def check_ranks(directory: Path, ranks: int) -> None:
    """Refuse to go on with another number of processes.

    A step would have other rows in it, an epoch maybe other steps, and generators' states would be missing.

    Raises:
        UsageError: If the newest complete checkpoint was written by another number than `ranks`.
    """
    newest = newest_complete_checkpoint(directory)
    before = read_json_object(newest / MARKER)["ranks"] if newest else ranks
    if before != ranks:
        raise UsageError(
            f"--out: {newest} was written by {before} process(es), and {ranks} were started; go on"
            f" with `accelerate launch --num_processes {before}`, or remove {directory.parent} or choose"
            " another folder"
        )


def checkpoint_to_resume(directory: Path) -> Path | None:
    """The newest complete checkpoint; says which newer ones are broken, and removes those.

    Left in place, they would count among the checkpoints that are kept, of which the oldest are removed.
    """
    newest, broken = newest_whole(directory, "checkpoint-*", _usable)
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
        DamagedFile: Naming the file.
    """
    whole(checkpoint)
    best = read_json_object(checkpoint / TRAINER_STATE_NAME).get("best_global_step")
    if best:
        whole(checkpoint.with_name(f"checkpoint-{best}"))

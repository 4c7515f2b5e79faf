"""The reports of a running training: `log.jsonl`, `status.json`, and a progress bar on a terminal."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from finetune.training.milestones import Milestones
from pipelines.atomic import write_json_lines
from pipelines.device import Share
from pipelines.progress import Progress, Tally


class TrainingLog(TrainerCallback):
    """Writes log and status of a training to its folder, in the first process.

    `log.jsonl` is the Trainer's history, written as a whole each time, so that a resumed run's log has no
    entry twice. The status counts rows over all epochs.
    """

    def __init__(self, directory: Path, milestones: Milestones) -> None:
        self.directory, self.milestones = directory, milestones
        self._progress: Progress | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if not state.is_world_process_zero:
            return
        rows = _rows_of_step(args)
        done = rows * state.global_step
        tally = Tally(done=done, failed=0, left=rows * state.max_steps - done)
        self._progress = Progress(self.directory, "finetune", Share(0, 1), [tally])
        self._progress.show()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._progress:
            self._progress.advance(_rows_of_step(args), 0)

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._progress:
            entries = [dict(sorted(entry.items())) for entry in state.log_history]
            write_json_lines(self.directory / "log.jsonl", entries)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._progress and self.milestones.stopped:
            self.stop()
        elif self._progress:
            # After an early stop, the remaining epochs are not left to do.
            self._progress.tally = replace(self._progress.tally, left=0)
            self._progress.show(state="done")

    def stop(self) -> None:
        """Report that the training stopped before its end."""
        if self._progress:
            self._progress.show(state="stopped")


def _rows_of_step(args: Any) -> int:
    return args.train_batch_size * args.gradient_accumulation_steps * args.world_size

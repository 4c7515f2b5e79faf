"""Runs a stage's operator over its tasks, in this process, so that nothing finished is done twice.

    tasks = [Task(id, key, payload), ...]       what there is to do, in the store's order
    stage = Stage("augment", out, schema, run_settings)
    stage.perform(tasks, load, make_operator)       resumes; quarantines what fails
    if stage.leads:
        stage.commit(tasks, rows, settings)         the store, once all tasks are accounted for

Several processes may run the same stage on the same folder: each does the tasks that fall to it
by their digests, the first one waits for the others and commits.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from pipelines.atomic import write_json_lines
from pipelines.device import Share, share
from pipelines.errors import RowError, RunError, UsageError
from pipelines.finished_tasks import Failure, Parts
from pipelines.progress import Progress, Tally
from pipelines.row import Row, digest
from pipelines.settings import RunSettings
from pipelines.shared_failure import ENOUGH, FirstFailures, likeness
from pipelines.store import commit

if TYPE_CHECKING:
    import pyarrow

logger = logging.getLogger(__name__)

POLL_S = 0.5  # how often the first process looks whether the others have ended


Input = TypeVar("Input")
Loaded = TypeVar("Loaded", contravariant=True)


class Operator(Protocol[Loaded]):
    """Holds a loaded model and turns loaded tasks into results, one for one.

    A call raises for a batch with a row that it cannot do; the rows are then tried one by one. A
    `RowError` is about that row's content. A `UsageError` or `RunError` is about the run and not about a
    row, and ends it, and so does any other error that the first rows all share.
    """

    def __call__(self, inputs: Sequence[Loaded], /) -> list[Row]: ...


@dataclass(frozen=True)
class Task:
    """One result that a stage is to make."""

    id: str
    """The id of the row that it makes or completes."""
    key: str
    """Digest of the inputs, of the settings that matter and of the seed: see `task_key`."""
    payload: Any = None
    """What the stage needs to load it."""
    shard_key: str | None = None
    """A digest; tasks with the same one fall to the same process, which may make once what they share."""


class StageFailed(RunError):
    """A stage stopped, or ended without a single row; what is done stays on disk."""


def task_key(row_id: str, inputs: Any, settings: Any, seed: int) -> str:
    """The key of a task: a SHA-256 hex digest over all that its result depends on."""
    return digest([row_id, inputs, settings, seed])


class Stage:
    """One stage that works on the folder of its store.

    Args:
        name: The stage's name, for the records.
        directory: The folder of the store that it writes.
        schema: The columns of one result.
        settings: How to go through the tasks.
    """

    def __init__(self, name: str, directory: Path, schema: pyarrow.Schema, settings: RunSettings) -> None:
        self.name, self.directory, self.settings = name, Path(directory), settings
        self.directory.mkdir(parents=True, exist_ok=True)
        self.share: Share = share()
        if settings.retry_failed and self.share.processes > 1:
            raise ValueError(
                f"retry_failed: {self.share.processes} processes were started, and failed rows are taken"
                " again by one alone; start the stage without a launcher"
            )
        self.parts = Parts(self.directory, schema)
        self._first = FirstFailures()

    @property
    def leads(self) -> bool:
        """Whether this process is the one that commits."""
        return self.share.rank == 0

    def perform(
        self,
        tasks: Sequence[Task],
        load: Callable[[Task], Input],
        make_operator: Callable[[], Operator[Input]],
    ) -> None:
        """Do what is not done yet of this process' share; then, in the first process, wait for the rest.

        Args:
            tasks: All tasks of the stage, the same in every process.
            load: Reads what the operator needs for one task.
            make_operator: Loads the model; called only where there is something to do.

        Raises:
            StageFailed: If more rows failed than the settings allow, or the first ones all for one reason.
            UsageError: If the operator cannot be made as it was asked for.
        """
        mine = [task for task in tasks if self._is_mine(task)]
        todo = [task for task in mine if self._pending(task)]
        done = sum(self.parts.done(task.key) for task in mine)
        tally = Tally(done=done, failed=len(mine) - len(todo) - done, left=len(todo))
        with Progress(self.directory, self.name, self.share, tally) as progress:
            operator = make_operator() if todo else None
            for start in range(0, len(todo), self.settings.batch_size):
                assert operator is not None
                batch = todo[start : start + self.settings.batch_size]
                self._attempt(batch, load, operator, progress)
                self._check_failures(tasks)
            if self._first.held:
                self._check_shared(len(tasks))
                self._give_up_held(progress)
                self._check_failures(tasks)
            if self.leads:
                self._wait_for_others(tasks, progress)

    def commit(
        self,
        tasks: Sequence[Task],
        rows: Iterable[Row],
        settings: dict[str, Any],
        scores: Iterable[str] = (),
        keep: Collection[str] = (),
    ) -> dict[str, int]:
        """Write the store from the finished tasks and say what became of all of them.

        Args:
            tasks: All tasks of the stage.
            rows: The store's rows in order; read lazily.
            settings: For `settings.json` and the card.
            scores: Names of the `score_*` columns.
            keep: Keys of results that are not in the store but are to be found again later.

        Returns:
            Rows per split.

        Raises:
            StageFailed: If there were tasks and every one of them failed.
        """
        failures = self.parts.failures(task.key for task in tasks)
        write_json_lines(self.directory / "failures.jsonl", failures)
        if tasks and len(failures) == len(tasks):
            raise StageFailed(
                f"{self.name}: all {len(tasks)} rows failed, the first with {failures[0]['error']}:"
                f" {failures[0]['message']}; see {self.directory / 'failures.jsonl'}, mend what it names, and"
                " give the same command with --retry-failed"
            )
        done = [task.key for task in tasks if self.parts.done(task.key)]
        generation = digest([done, settings["config"], settings["inputs"]])
        for key in keep:
            self.parts.hold(key)
        index = [(task.key, task.id) for task in tasks]
        self.parts.announce(generation, index)
        counts = commit(self.directory, rows, generation=generation, settings=settings, scores=scores)
        self.parts.close(index, keep)
        return counts

    def _is_mine(self, task: Task) -> bool:
        return self.share.holds(task.shard_key or task.key)

    def _pending(self, task: Task) -> bool:
        if self.parts.done(task.key):
            return False
        return self.settings.retry_failed or self.parts.failure(task.key) is None

    def _attempt(
        self,
        batch: list[Task],
        load: Callable[[Task], Input],
        operator: Operator[Input],
        progress: Progress,
    ) -> None:
        """Do a batch, row by row where it fails as a whole."""
        try:
            results = operator([load(task) for task in batch])
            assert len(results) == len(batch)
        except (RunError, UsageError):
            raise
        except Exception as error:
            if len(batch) > 1:
                for task in batch:
                    self._attempt([task], load, operator, progress)
            else:
                self._fail(batch[0], error, progress)
            return
        self._give_up_held(progress)
        self.parts.put([task.key for task in batch], results)
        progress.advance(len(batch), 0)

    def _fail(self, task: Task, error: Exception, progress: Progress) -> None:
        earlier = self.parts.failure(task.key)
        failure = Failure(
            id=task.id,
            stage=self.name,
            error=type(error).__name__,
            message=str(error),
            attempts=1 + (earlier.attempts if earlier else 0),
            key=task.key,
        )
        logger.debug("%s: the error in full", task.id, exc_info=error)
        # A row that fails again as it did while others were done is one that cannot be done.
        known = earlier and progress.tally.done and likeness(earlier) == likeness(failure)
        if not isinstance(error, RowError) and not known and self._first.holds(failure):
            if len(self._first.held) == ENOUGH:
                self._check_shared(ENOUGH)
            return
        self._give_up_held(progress)
        self._quarantine(failure, progress)

    def _check_shared(self, rows: int) -> None:
        """Stop where so many rows failed for one reason. With several processes, each decides on its rows."""
        held = self._first.held
        if len(held) < rows:
            return
        which = "the first" if rows == ENOUGH else "all"
        raise StageFailed(
            f"{self.name}: {which} {rows} rows failed alike, with {held[0].error}: {held[0].message}; that is"
            " taken for a fault of the run, so nothing was decided about these rows or the rest: mend the"
            " cause and give the same command again"
        )

    def _give_up_held(self, progress: Progress) -> None:
        """Take the failures that were held back for the rows' own."""
        for failure in self._first.release():
            self._quarantine(failure, progress)

    def _quarantine(self, failure: Failure, progress: Progress) -> None:
        logger.warning("%s: %s: %s", failure.id, failure.error, failure.message)
        self.parts.put_failure(failure)
        progress.advance(0, 1)

    def _check_failures(self, tasks: Sequence[Task]) -> None:
        limit = self.settings.max_failures
        if limit is None:
            return
        failures = self.parts.failures(task.key for task in tasks)
        if len(failures) > limit:
            write_json_lines(self.directory / "failures.jsonl", failures)
            raise StageFailed(
                f"{self.name}: stopped after {len(failures)} failed rows (max_failures is {limit}),"
                f" the last: {failures[-1]['id']}: {failures[-1]['message']};"
                f" see {self.directory / 'failures.jsonl'}; what is done is kept"
            )

    def _wait_for_others(self, tasks: Sequence[Task], progress: Progress) -> None:
        # Another process that ends with an error leaves its rows undecided, and this would wait for ever;
        # but accelerate's and torchrun's launchers end all processes once one has failed.
        others = [task for task in tasks if not self._is_mine(task)]
        while any(self._pending(task) for task in others):
            time.sleep(POLL_S)
            self.parts.refresh()
            progress.show()

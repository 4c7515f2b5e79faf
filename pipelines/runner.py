"""Runs a stage's operator over its tasks, so that no finished task is done twice.

    tasks = [Task(id, key, payload), ...]       what there is to do, in the store's order
    stage = Stage("augment", out, schema, run_settings)
    stage.perform(tasks, load, make_operator)       resumes; quarantines what fails
    if stage.leads:
        stage.commit(tasks, rows, settings)         the store, once all tasks are accounted for

Several processes may run the same stage on the same folder: each does the tasks that are assigned to it by
their digests; the first one waits for the others and commits.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from pipelines.atomic import DamagedFile, make_folder, write_json_lines
from pipelines.device import Share, share
from pipelines.errors import RowError, RunError, UsageError, listed
from pipelines.finished_tasks import WORKS, Failure, Parts, clear_rubbish
from pipelines.progress import Progress, Tally
from pipelines.row import Row, digest
from pipelines.running.machine_faults import refuse_fault
from pipelines.running.shared_failure import ENOUGH, FirstFailures, likeness
from pipelines.settings import RunSettings
from pipelines.store import SETTINGS, commit
from pipelines.store_files.card import CARD
from pipelines.store_files.checksums import read_sealed

if TYPE_CHECKING:
    import pyarrow

logger = logging.getLogger(__name__)

POLL_S = 0.5  # interval in which the first process checks whether the others are done


Input = TypeVar("Input")
Loaded = TypeVar("Loaded", contravariant=True)


class Operator(Protocol[Loaded]):
    """Holds a loaded model and turns each loaded task into a result.

    A call raises if a row of the batch fails; the rows are then tried one by one. A `RowError` is about
    that row's content. A `UsageError` or `RunError` is about the run, and ends it; so does any fault of the
    machine, and any other error that the first rows all share.
    """

    def __call__(self, inputs: Sequence[Loaded], /) -> list[Row]: ...


@dataclass(frozen=True)
class Task:
    """One result that a stage is to make."""

    id: str
    """The id of the row that it makes or completes."""
    key: str
    """Digest of the inputs, the relevant settings and the seed: see `task_key`."""
    payload: Any = None
    """What the stage needs to load it."""
    shard_key: str | None = None
    """A digest; tasks with the same one go to the same process, which may compute once what they share."""


class StageFailed(RunError):
    """A stage stopped, or ended without a single row; finished results stay on disk."""


def task_key(row_id: str, inputs: Any, settings: Any, seed: int) -> str:
    """The key of a task: a SHA-256 hex digest of everything that its result depends on."""
    return digest([row_id, inputs, settings, seed])


def check_ours(stage: str, directory: Path) -> None:
    """Refuse a folder with a store that another stage wrote, or with a README or settings of no stage.

    Raises:
        UsageError: Naming what is there.
    """
    held = next((name for name in (CARD, SETTINGS) if (directory / name).exists()), None)
    try:
        writer = read_sealed(directory / SETTINGS).get("stage")
    except (OSError, DamagedFile):  # of a store of our own, the index is there, too
        writer = stage if held is None or (directory / WORKS).exists() else None
    if writer != stage:
        raise UsageError(
            f"--out: {directory} has a {held} that this stage did not write; choose another --out, or give"
            " --overwrite to replace what is there"
        )


class Stage:
    """One stage that works on the folder of its store; `schema` has the columns of one result."""

    def __init__(self, name: str, directory: Path, schema: pyarrow.Schema, settings: RunSettings) -> None:
        self.name, self.directory, self.settings = name, Path(directory), settings
        make_folder(self.directory)
        self.share: Share = share()
        if settings.retry_failed and self.share.processes > 1:
            raise UsageError(
                f"--retry-failed: {self.share.processes} processes were started, and failed rows are tried"
                " again by one process only; start the stage without a launcher"
            )
        if not settings.overwrite:
            check_ours(name, self.directory)
        if self.leads:
            clear_rubbish(self.directory)
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
        others: Collection[str] = (),
    ) -> None:
        """Do the pending tasks of this process' share; the first process then waits for the others.

        Args:
            tasks: All tasks of the stage, the same in every process.
            load: Reads the operator's input for one task.
            make_operator: Loads the model; called only if there are pending tasks.
            others: Keys of results that may be in the folder beside those of the tasks.

        Raises:
            MachineFault: If a row failed by the machine's fault.
            StageFailed: If more rows failed than the settings allow, or the first ones all for one reason.
            UsageError: If the settings of the operator cannot be used, or finished results would be replaced.
        """
        self._check_replaced({task.key for task in tasks} | set(others))
        todo = [task for task in tasks if self._is_mine(task) and self._pending(task)]
        with self._reporting(tasks) as progress:
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
        computed: Any = None,
    ) -> dict[str, int]:
        """Write the store from the finished tasks, and the records of all tasks.

        Args:
            tasks: All tasks of the stage.
            rows: The store's rows in order; read lazily.
            settings: For `settings.json` and the card.
            scores: Names of the `score_*` columns.
            keep: Keys of results that are not in the store but must stay available.
            computed: What the rows have besides the tasks' results, as JSON takes it; if that is new, so
                is the store.

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
                f" {failures[0]['message']}; see {self.directory / 'failures.jsonl'}, fix the causes, and"
                " give the same command with --retry-failed"
            )
        done = [task.key for task in tasks if self.parts.done(task.key)]
        generation = digest([done, settings["config"], settings["inputs"], computed])
        for key in keep:
            self.parts.hold(key)
        index = [(task.key, task.id) for task in tasks]
        self.parts.announce(generation, index)
        counts = commit(self.directory, rows, generation=generation, settings=settings, scores=scores)
        self.parts.close(index, keep)
        return counts

    def _check_replaced(self, known: set[str]) -> None:
        """Refuse to replace finished results that none of the tasks would make again."""
        if self.settings.overwrite:
            return
        finished = self.parts.finished().items()
        replaced = dict.fromkeys(row_id for key, row_id in finished if key not in known)
        if replaced:
            raise UsageError(
                f"--out: {self.directory} holds finished rows of other settings or inputs, which would be"
                f" lost ({listed(replaced)}); choose another --out, or give --overwrite to replace them"
            )

    @contextmanager
    def _reporting(self, tasks: Sequence[Task]) -> Iterator[Progress]:
        """Show the progress of all processes; if a signal interrupts them, an error says how far they are."""
        tallies = [Tally(0, 0, 0) for _ in range(self.share.processes)]
        for task in tasks:
            rank = self.share.rank_of(task.shard_key or task.key)
            is_done, is_left = self.parts.done(task.key), self._pending(task)
            tallies[rank] += Tally(done=is_done, failed=not (is_done or is_left), left=is_left)
        try:
            with Progress(self.directory, self.name, self.share, tallies) as progress:
                yield progress
        except KeyboardInterrupt as stopped:
            if not self.leads:
                sys.exit(1)  # the first process tells of all
            tally = progress.everywhere()
            raise StageFailed(
                f"{self.name}: stopped, {tally.done} of {tally.total} done; the same command goes on"
            ) from stopped

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
        """Do a batch, or its rows one by one if it fails."""
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
        refuse_fault(error, f"{self.name}: {task.id}")
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
        # A row that fails again like before, while others were done, fails for a reason of its own.
        known = earlier and progress.tally.done and likeness(earlier) == likeness(failure)
        if not isinstance(error, RowError) and not known and self._first.holds(failure):
            if len(self._first.held) == ENOUGH:
                self._check_shared(ENOUGH)
            return
        self._give_up_held(progress)
        self._quarantine(failure, progress)

    def _check_shared(self, rows: int) -> None:
        """Stop if so many rows failed for one reason. Each of several processes decides on its own rows."""
        held = self._first.held
        if len(held) >= rows:
            which = "the first" if rows == ENOUGH else "all"
            raise StageFailed(
                f"{self.name}: {which} {rows} rows failed alike, with {held[0].error}: {held[0].message};"
                " this is taken for an error of the run, so nothing was decided about these rows or the rest:"
                " fix the cause and give the same command again"
            )

    def _give_up_held(self, progress: Progress) -> None:
        """Record the failures that were held back as failures of their rows."""
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
                f" see {self.directory / 'failures.jsonl'}; finished rows are kept"
            )

    def _wait_for_others(self, tasks: Sequence[Task], progress: Progress) -> None:
        # If another process ends with an error, its rows stay pending and this would wait for ever; but
        # accelerate's and torchrun's launchers end all processes when one has failed.
        others = [task for task in tasks if not self._is_mine(task)]
        while any(self._pending(task) for task in others):
            time.sleep(POLL_S)
            self.parts.refresh()
            progress.show()

"""Finished tasks on disk, part by part: what makes a stage resumable.

A part is one Parquet file with the results of one batch, written to a temporary file and renamed, so that it
is complete or absent; its name has the digest of its content. Each result has the key of its task: a digest
of the task's inputs, the relevant settings and the seed. A result is looked up by its key in the parts, then
in the store that the stage committed last; a changed setting changes the keys of the tasks that it affects
only. What turns out to be damaged is left out with a warning, and its tasks are pending again.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pipelines.atomic import DamagedFile, json_lines, sweep, temporary_for, write_json_lines
from pipelines.row import Row, digest
from pipelines.store import GENERATION_DIGITS, StoreReader, committed_generation, own_shards, remove_unnamed
from pipelines.store_files.card import DamagedStore, StoreError
from pipelines.store_files.checksums import (
    is_vouched,
    publish_vouched,
    read_sealed,
    read_verified,
    sealed,
    unsealed,
    write_sealed,
)
from pipelines.store_files.parquet import parsing, read_table
from pipelines.store_files.shards import open_shards
from pipelines.untrusted.plain_json import parsed_json

if TYPE_CHECKING:
    import pyarrow

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

WORKS = "works.json"
FAILURES = "failures.jsonl"
NAME_DIGITS = 32  # of the digest of its tasks, in a part's name
_PART = re.compile(rf"([0-9a-f]{{2}})/\1[0-9a-f]{{{NAME_DIGITS - 2}}}((-[0-9a-f]+)?\.parquet|\.failed\.json)")


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why a task has no result."""

    id: str
    stage: str
    error: str
    """The class of the exception."""
    message: str
    attempts: int
    key: str


@dataclass(frozen=True)
class Committed:
    """What a stage finds of its own store."""

    generation: str | None = None
    tasks: dict[str, str] = field(default_factory=dict)
    """The row's id by the task's key."""
    reader: StoreReader | None = None
    """Has the rows of `tasks`; None if there are none."""


def committed_tasks(directory: Path) -> dict[str, str]:
    """The tasks of a committed store's rows: the row's id by the task's key."""
    return committed(directory).tasks


def committed(directory: Path) -> Committed:
    """The finished tasks and their rows in a stage's own store.

    Rows that are lost with a damaged file are left out with a warning; so are all rows if the index is lost.
    """
    while True:
        index, generation = _index_of(directory), _generation(directory)
        # After a crash during a commit, the index has the generations before and after it.
        known = (each for each in (index, index.get("next")) if each and each["generation"])
        # If the card is damaged, the index knows the generation that it was of.
        chosen = next((each for each in known if each["generation"] == generation), index)
        if not chosen.get("generation") or not chosen["rows"]:
            return Committed(generation)
        reader = StoreReader(directory, intact_of=chosen["generation"])
        if _generation(directory) == generation:  # no other process has committed meanwhile
            break
    there = {*reader.table["id"].to_pylist()}
    intact = {key: row_id for key, row_id in chosen["rows"].items() if row_id in there}
    if len(intact) < len(chosen["rows"]):
        logger.warning(
            "%s: %d of %d finished rows are lost with damaged or missing files, and are made again",
            directory,
            len(chosen["rows"]) - len(intact),
            len(chosen["rows"]),
        )
    return Committed(chosen["generation"], intact, reader)


def _index_of(directory: Path) -> dict[str, Any]:
    try:
        index = read_sealed(directory / WORKS)
        if not {"generation", "rows"} <= index.keys():
            raise DamagedFile(f"{directory / WORKS}: damaged: it lacks `generation` or `rows`")
        return index
    except FileNotFoundError:
        return {}
    except DamagedFile as error:
        logger.warning("%s; the rows of the store are made again", error)
        return {}


def _generation(directory: Path) -> str | None:
    """The generation of a store; None if there is none, or its card is damaged."""
    try:
        return committed_generation(directory)
    except DamagedStore:
        return None


def clear_rubbish(directory: Path) -> None:
    """Remove what killed processes left in a stage's folder: temporary files, and shards of no store.

    Only the first process of a run may call this, while no other run works in the folder.
    """
    for folder in (directory, directory / "data", directory / "parts", *(directory / "parts").glob("*/")):
        sweep(folder)
    try:
        open_shards(directory)
        remove_unnamed(directory)
    except DamagedStore:
        return  # what the card does not name may be what it should name
    except StoreError:
        if not _index_of(directory).get("generation"):  # there never was a store
            for path in own_shards(directory):
                path.unlink()


class Parts:
    """The finished tasks of one stage in the folder of its store; `schema` is without the key."""

    def __init__(self, directory: Path, schema: pyarrow.Schema) -> None:
        import pyarrow

        self.directory = directory
        self.folder = directory / "parts"
        self.schema = schema.insert(0, pyarrow.field("key", pyarrow.string()))
        self._where: dict[str, tuple[Path, int]] = {}
        self._failures: dict[str, Failure] = {}
        self._open_part: tuple[Path, list[Row]] | None = None
        self._seen: set[Path] = set()
        # In this order: what the first process removes from the parts meanwhile is then in the store.
        self.refresh()
        self._committed = committed(self.directory)
        for failure in _listed_failures(self.directory / FAILURES):
            self._failures.setdefault(failure.key, failure)

    def refresh(self) -> None:
        """Read what this or another process has finished since the last call."""
        for path in self._unseen("*.parquet"):
            keys = _unless_damaged(path, _keys_of)
            if keys is not None:
                self._where |= {key: (path, index) for index, key in enumerate(keys)}
                self._seen.add(path)
        for path in self._unseen("*.failed.json"):
            failure = _unless_damaged(path, _failure_of)
            if failure is not None:
                self._failures[failure.key] = failure
                self._seen.add(path)

    def _unseen(self, pattern: str) -> list[Path]:
        return sorted(self._own(pattern) - self._seen)

    def _own(self, pattern: str) -> set[Path]:
        """The parts and failures of this stage; a file of another name is somebody's own."""
        # Path.glob fails if a folder is removed meanwhile.
        names = glob(f"*/{pattern}", root_dir=self.folder)  # noqa: PTH207
        return {self.folder / name for name in names if _PART.fullmatch(name)}

    def done(self, key: str) -> bool:
        """Whether there is a result for this key."""
        return key in self._where or key in self._committed.tasks

    def finished(self) -> dict[str, str]:
        """By key, the ids of all rows that have a result, whether there is a task for it now or not."""
        return dict.fromkeys(self._where, "of an unfinished run") | self._committed.tasks

    def failure(self, key: str) -> Failure | None:
        """The failure recorded for this key, unless there is a result now."""
        return None if self.done(key) else self._failures.get(key)

    def put(self, keys: Sequence[str], rows: Sequence[Row]) -> None:
        """Record the results of a batch."""
        import pyarrow
        import pyarrow.parquet

        table = pyarrow.Table.from_pylist(
            [{"key": key, **row} for key, row in zip(keys, rows, strict=True)], schema=self.schema
        )
        path = self._path(digest(list(keys)), ".parquet")
        temporary = temporary_for(path)
        try:
            pyarrow.parquet.write_table(table, temporary)
            path = publish_vouched(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        self._where |= {key: (path, index) for index, key in enumerate(keys)}
        self._seen.add(path)

    def put_failure(self, failure: Failure) -> None:
        """Record that a task failed."""
        path = self._path(digest(failure.key), ".failed.json")
        write_sealed(path, asdict(failure))
        self._failures[failure.key] = failure
        self._seen.add(path)

    def get(self, key: str) -> Row:
        """The result for a key that is done: a row with the schema's columns."""
        if key in self._where:
            path, index = self._where[key]
            return {name: value for name, value in self._rows(path)[index].items() if name != "key"}
        reader = self._committed.reader
        assert reader is not None
        row = reader.row(reader.index_of(self._committed.tasks[key]))
        return {name: row[name] for name in self.schema.names if name != "key"}

    def announce(self, generation: str, tasks: Iterable[tuple[str, str]]) -> None:
        """Before the commit: record the `tasks` (key, row id) of the next generation."""
        current = {"generation": self._committed.generation, "rows": self._committed.tasks}
        write_sealed(self.directory / WORKS, current | {"next": self._index(generation, tasks)})

    def close(self, tasks: Iterable[tuple[str, str]], keep: Collection[str] = ()) -> None:
        """After the commit: write the index of the store's `tasks` and their failures, remove the parts.

        Args:
            tasks: Key and row id of each task.
            keep: Keys whose parts stay; see `hold`.
        """
        tasks = list(tasks)
        write_json_lines(self.directory / FAILURES, self.failures(key for key, _ in tasks))
        generation = committed_generation(self.directory)
        assert generation is not None
        write_sealed(self.directory / WORKS, self._index(generation, tasks))
        held = {self._own_name(key) for key in keep}
        for path in self._own("*"):
            if path.suffix != ".parquet" or _name_of(path) not in held:
                path.unlink(missing_ok=True)
        for folder in (*self.folder.glob("[0-9a-f][0-9a-f]"), self.folder):
            with suppress(OSError):  # if something in it stays
                folder.rmdir()

    def hold(self, key: str) -> None:
        """Before the commit: write a result that the store will not have any more to a part of its own."""
        part = self._where.get(key)
        if self.done(key) and not (part and _name_of(part[0]) == self._own_name(key)):
            self.put([key], [self.get(key)])

    def _index(self, generation: str, tasks: Iterable[tuple[str, str]]) -> dict[str, Any]:
        rows = {key: row_id for key, row_id in tasks if self.done(key)}
        return {"generation": generation[:GENERATION_DIGITS], "rows": rows}

    def _own_name(self, key: str) -> str:
        return digest([key])[:NAME_DIGITS]

    def failures(self, keys: Iterable[str]) -> list[dict[str, Any]]:
        """The failures among these keys, for `failures.jsonl`."""
        return [sealed(asdict(failure)) for key in keys if (failure := self.failure(key))]

    def _path(self, name: str, suffix: str) -> Path:
        return self.folder / name[:2] / (name[:NAME_DIGITS] + suffix)

    def _rows(self, path: Path) -> list[Row]:
        if self._open_part is None or self._open_part[0] != path:
            self._open_part = path, _part(path).to_pylist()
        return self._open_part[1]


def _name_of(path: Path) -> str:
    """A part's name without the digest of its content."""
    return path.stem.partition("-")[0]


def _part(path: Path, columns: Sequence[str] | None = None) -> pyarrow.Table:
    """A part, or some of its columns.

    Raises:
        DamagedFile: If it is not what was written.
    """
    content = read_verified(path)
    with parsing(path):
        return read_table(content, columns)


def _keys_of(path: Path) -> list[str]:
    # Without a digest, only reading all of it shows whether it is damaged.
    return _part(path, ["key"] if is_vouched(path) else None)["key"].to_pylist()


def _failure_of(path: Path) -> Failure:
    try:
        return Failure(**read_sealed(path))
    except TypeError as error:
        raise DamagedFile(f"{path}: damaged: {error}") from error


def _unless_damaged(path: Path, read: Callable[[Path], Result]) -> Result | None:
    """What is read from a part; None of one that is damaged, which is removed, or was removed meanwhile."""
    try:
        return read(path)
    except FileNotFoundError:
        return None
    except DamagedFile as error:
        logger.warning("%s; it is removed, and its rows are made again", str(error).partition(";")[0])
        path.unlink(missing_ok=True)
        return None


def _listed_failures(path: Path) -> Iterator[Failure]:
    for number, line in json_lines(path):
        try:
            yield Failure(**unsealed(parsed_json(line)))
        except (ValueError, TypeError) as error:
            logger.warning("%s: line %d is damaged (%s); its row is tried again", path, number, error)

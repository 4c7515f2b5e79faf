"""Finished tasks on disk, part by part: what makes a stage resumable.

A part is one Parquet file with the results of one batch, written to a temporary file and renamed, so that it
is complete or absent. Each result has the key of its task: a digest of the task's inputs, the relevant
settings and the seed. A result is looked up by its key in the parts, then in the store that the stage
committed last; a changed setting changes the keys of the tasks that it affects only.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.atomic import read_json_lines, write_json, write_json_lines, write_table
from pipelines.row import Row, digest
from pipelines.store import GENERATION_DIGITS, StoreReader, committed_generation

if TYPE_CHECKING:
    import pyarrow


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


def committed_tasks(directory: Path) -> dict[str, str]:
    """The tasks of a committed store's rows: the row's id by the task's key."""
    index = directory / "works.json"
    tasks = json.loads(index.read_text(encoding="utf-8")) if index.exists() else {}
    generation = committed_generation(directory)
    # After a crash during a commit, the index has the generations before and after it.
    known = (each for each in (tasks, tasks.get("next")) if each and each["generation"] == generation)
    return next((each["rows"] for each in known), {})


class Parts:
    """The finished tasks of one stage in the folder of its store; `schema` is without the key."""

    def __init__(self, directory: Path, schema: pyarrow.Schema) -> None:
        import pyarrow

        self.directory = directory
        self.folder = directory / "parts"
        self.schema = schema.insert(0, pyarrow.field("key", pyarrow.string()))
        self._where: dict[str, tuple[Path, int]] = {}
        self._failures: dict[str, Failure] = {}
        self._reader: StoreReader | None = None
        self._open_part: tuple[Path, list[Row]] | None = None
        self._seen: set[Path] = set()
        # In this order: what the first process removes from the parts meanwhile is then in the store.
        self.refresh()
        self._committed = committed_tasks(self.directory)
        if self._committed:
            self._reader = StoreReader(self.directory)
        for record in read_json_lines(self.directory / "failures.jsonl"):
            self._failures.setdefault(record["key"], Failure(**record))

    def refresh(self) -> None:
        """Read what this or another process has finished since the last call."""
        import pyarrow.parquet

        for path in self._unseen("*.parquet"):
            with suppress(FileNotFoundError):
                keys = pyarrow.parquet.read_table(path, columns=["key"])["key"].to_pylist()
                self._where |= {key: (path, index) for index, key in enumerate(keys)}
                self._seen.add(path)
        for path in self._unseen("*.failed.json"):
            with suppress(FileNotFoundError):
                failure = Failure(**json.loads(path.read_text(encoding="utf-8")))
                self._failures[failure.key] = failure
                self._seen.add(path)

    def _unseen(self, pattern: str) -> list[Path]:
        # Path.glob fails if a folder is removed meanwhile.
        paths = {self.folder / name for name in glob(f"*/{pattern}", root_dir=self.folder)}  # noqa: PTH207
        return sorted(paths - self._seen)

    def done(self, key: str) -> bool:
        """Whether there is a result for this key."""
        return key in self._where or key in self._committed

    def failure(self, key: str) -> Failure | None:
        """The failure recorded for this key, unless there is a result now."""
        return None if self.done(key) else self._failures.get(key)

    def put(self, keys: Sequence[str], rows: Sequence[Row]) -> None:
        """Record the results of a batch."""
        import pyarrow

        table = pyarrow.Table.from_pylist(
            [{"key": key, **row} for key, row in zip(keys, rows, strict=True)], schema=self.schema
        )
        path = self._path(digest(list(keys)), ".parquet")
        write_table(path, table)
        self._where |= {key: (path, index) for index, key in enumerate(keys)}
        self._seen.add(path)

    def put_failure(self, failure: Failure) -> None:
        """Record that a task failed."""
        path = self._path(digest(failure.key), ".failed.json")
        write_json(path, asdict(failure))
        self._failures[failure.key] = failure
        self._seen.add(path)

    def get(self, key: str) -> Row:
        """The result for a key that is done: a row with the schema's columns."""
        if key in self._where:
            path, index = self._where[key]
            return {name: value for name, value in self._rows(path)[index].items() if name != "key"}
        assert self._reader is not None
        row = self._reader.row(self._reader.index_of(self._committed[key]))
        return {name: row[name] for name in self.schema.names if name != "key"}

    def announce(self, generation: str, tasks: Iterable[tuple[str, str]]) -> None:
        """Before the commit: record the `tasks` (key, row id) of the next generation."""
        current = {"generation": committed_generation(self.directory), "rows": self._committed}
        write_json(self.directory / "works.json", current | {"next": self._index(generation, tasks)})

    def close(self, tasks: Iterable[tuple[str, str]], keep: Collection[str] = ()) -> None:
        """After the commit: write the index of the store's `tasks` and their failures, remove the parts.

        Args:
            tasks: Key and row id of each task.
            keep: Keys whose parts stay; see `hold`.
        """
        tasks = list(tasks)
        write_json_lines(self.directory / "failures.jsonl", self.failures(key for key, _ in tasks))
        generation = committed_generation(self.directory)
        assert generation is not None
        write_json(self.directory / "works.json", self._index(generation, tasks))
        held = {self._own_part(key) for key in keep}
        for path in sorted(self.folder.rglob("*"), reverse=True):  # a folder after what is in it
            if path.is_dir():
                with suppress(OSError):  # if something in it stays
                    path.rmdir()
            elif path not in held:
                path.unlink(missing_ok=True)
        with suppress(OSError):
            self.folder.rmdir()

    def hold(self, key: str) -> None:
        """Before the commit: write a result that the store will not have any more to a part of its own."""
        if self.done(key) and not self._own_part(key).exists():
            self.put([key], [self.get(key)])

    def _index(self, generation: str, tasks: Iterable[tuple[str, str]]) -> dict[str, Any]:
        rows = {key: row_id for key, row_id in tasks if self.done(key)}
        return {"generation": generation[:GENERATION_DIGITS], "rows": rows}

    def _own_part(self, key: str) -> Path:
        return self._path(digest([key]), ".parquet")

    def failures(self, keys: Iterable[str]) -> list[dict[str, Any]]:
        """The failures among these keys, for `failures.jsonl`."""
        return [asdict(failure) for key in keys if (failure := self.failure(key))]

    def _path(self, name: str, suffix: str) -> Path:
        return self.folder / name[:2] / (name[:32] + suffix)

    def _rows(self, path: Path) -> list[Row]:
        import pyarrow.parquet

        if self._open_part is None or self._open_part[0] != path:
            # Without threads: where none can be started, Arrow waits for them for ever.
            table = pyarrow.parquet.ParquetFile(path).read(use_threads=False)
            self._open_part = path, table.to_pylist()
        return self._open_part[1]

"""A store: a Hugging Face dataset on disk, replaced as a whole by one rename.

    data/train-<generation>-00000-<digest>.parquet ...   rows, media inside
    README.md         the dataset card; its YAML names the data files
    settings.json     what made the store: configuration, versions, command
    failures.jsonl, status.json, works.json     see `pipelines.runner`

`commit` writes new shards under new names beside the old ones, and the card last. The card is the manifest:
when it is renamed into place, the new rows become the store; shards that it does not name are garbage. A
shard's name has the digest of its content, which is verified before a row is read.
"""

from __future__ import annotations

import bisect
import logging
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cached_property, lru_cache
from glob import escape
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.atomic import DamagedFile, temporary_for, write_text
from pipelines.row import MEDIA, SPLITS, Row, features
from pipelines.store_files.card import CARD, DamagedStore, StoreError, is_store, read_card, render
from pipelines.store_files.checksums import publish_vouched, read_sealed, write_sealed
from pipelines.store_files.parquet import read_group
from pipelines.store_files.shards import Shard, explained, open_intact, open_shards, reading

if TYPE_CHECKING:
    import datasets
    import pyarrow
    import pyarrow.parquet

logger = logging.getLogger(__name__)

SHARD_BYTES = 512 * 2**20
GROUP_BYTES = 32 * 2**20  # the Hub's viewer wants row groups under 100 MB
GROUP_ROWS = 64
GENERATION_DIGITS = 12
SETTINGS = "settings.json"
_SHARD = re.compile(rf"({'|'.join(SPLITS)})-[^-]+-\d{{5}}(-[0-9a-f]+)?\.parquet")


def open_store(directory: str | Path) -> datasets.Dataset:
    """All rows of a store as one dataset, media undecoded.

    Raises:
        StoreError: If the folder holds no store.
        DamagedStore: If a file of the store does not hold what was written to it.
    """
    import datasets

    open_shards(Path(directory), thorough=True)
    files = [escape(str(path)) for path in shards(Path(directory))]  # datasets takes patterns
    return datasets.load_dataset("parquet", data_files=files, split="train")


class StoreReader:
    """Rows of a store by position or id; reads only the row groups that are needed.

    Attributes:
        directory: The store.
        table: All rows in the store's order, with `has_video` and `has_audio` instead of the media.

    Args:
        directory: The store.
        intact_of: Read only the shards of this generation that are whole, whatever the card says.

    Raises:
        StoreError: If the folder holds no store.
        DamagedStore: If a file of the store does not hold what was written to it.
    """

    def __init__(self, directory: str | Path, *, intact_of: str | None = None) -> None:
        import pyarrow

        self.directory = Path(directory)
        opened = open_intact(self.directory, intact_of) if intact_of else open_shards(self.directory)
        tables = [_without_media(self.directory, shard) for shard in opened]
        self.table: pyarrow.Table = pyarrow.concat_tables(tables or [_no_rows()])
        self._groups = [
            (shard, group, shard.file.metadata.row_group(group).num_rows)
            for shard in opened
            for group in range(shard.file.num_row_groups)
        ]
        self._starts = list(accumulate((rows for *_, rows in self._groups), initial=0))
        self._read_group = lru_cache(maxsize=2)(self._read)

    def __len__(self) -> int:
        return self.table.num_rows

    @property
    def scores(self) -> list[str]:
        """The names of the `score_*` columns."""
        return [name for name in self.table.column_names if name.startswith("score_")]

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {row_id: index for index, row_id in enumerate(self.table["id"].to_pylist())}

    def index_of(self, row_id: str) -> int:
        """The position of the row with this id.

        Raises:
            StoreError: If the store has no such row.
        """
        if row_id not in self._positions:
            raise StoreError(f"{self.directory}: no row has the id {row_id!r}")
        return self._positions[row_id]

    def row(self, index: int) -> Row:
        """The row at a position, media included."""
        group = bisect.bisect_right(self._starts, index) - 1
        return self._read_group(group).slice(index - self._starts[group], 1).to_pylist()[0]

    def rows(self, ids: Iterable[str] | None = None) -> Iterator[Row]:
        """Rows with their media, those of `ids` in that order or all in the store's order."""
        indices = range(len(self)) if ids is None else map(self.index_of, ids)
        return map(self.row, indices)

    def _read(self, group: int) -> pyarrow.Table:
        shard, number, _ = self._groups[group]
        with reading(self.directory, shard.path):
            return read_group(shard.file, number)


def commit(
    directory: str | Path,
    rows: Iterable[Row],
    *,
    generation: str,
    settings: dict[str, Any],
    scores: Iterable[str] = (),
) -> dict[str, int]:
    """Replace the content of a store by `rows`, all at once.

    Args:
        directory: The store's folder, made if it is missing.
        rows: The rows in order; each goes to the shards of its split.
        generation: A hex digest of everything that the rows depend on. It names the shards; a store that
            is of this generation already is left as it is.
        settings: The record of how the store was made, for `settings.json` and the card: at least `stage`,
            `command` and `versions`.
        scores: Names of the `score_*` columns.

    Returns:
        The number of rows in each split.

    Raises:
        StoreError: If there is no row at all.
    """
    directory, name = Path(directory), generation[:GENERATION_DIGITS]
    counts = _rows_of(directory, name)
    if counts is None:
        files, counts = _write_shards(directory / "data", name, rows, scores)
        if not counts:
            raise StoreError(f"{directory}: no row is left to write; failures.jsonl there says why")
        write_sealed(directory / SETTINGS, settings)
        write_text(directory / CARD, render(files, counts, settings))
    else:
        _mend_records(directory, counts, settings)
    remove_unnamed(directory)
    return counts


def _rows_of(directory: Path, generation: str) -> dict[str, int] | None:
    """The rows by split of a store that is of this generation already, and whole."""
    try:
        if committed_generation(directory) != generation:
            return None
        open_shards(directory, thorough=True)
        written = StoreReader(directory).table["split"].to_pylist()
    except DamagedStore as error:
        logger.warning("%s is written again: %s", directory, str(error).partition(";")[0])
        return None
    return {split: written.count(split) for split in SPLITS if split in written}


def _mend_records(directory: Path, counts: dict[str, int], settings: dict[str, Any]) -> None:
    """Write a lost record of the store's making again, and a card that was cut; one that was edited stays."""
    lost = ""
    try:
        read_sealed(directory / SETTINGS)
    except FileNotFoundError:
        lost = f"{directory / SETTINGS}: missing"
    except DamagedFile as error:
        lost = str(error)
    if lost:
        logger.warning("%s; it is written again", lost)
        write_sealed(directory / SETTINGS, settings)
    whole, path = render(read_card(directory).files, counts, settings), directory / CARD
    if len(path.read_bytes()) < len(whole.encode()) and whole.encode().startswith(path.read_bytes()):
        logger.warning("%s: damaged: its end is missing; it is written again", path)
        write_text(path, whole)


def _write_shards(
    folder: Path, generation: str, rows: Iterable[Row], scores: Iterable[str]
) -> tuple[dict[str, list[str]], dict[str, int]]:
    """Write all rows; returns the paths of the shards in the store and the number of rows, by split."""
    writers = {split: _SplitWriter(folder, f"{split}-{generation}", scores) for split in SPLITS}
    try:
        for row in rows:
            writers[row["split"]].add(row)
        for writer in writers.values():
            writer.close()
    finally:
        for writer in writers.values():
            writer.discard()
    written = {split: writer for split, writer in writers.items() if writer.paths}
    files = {
        split: [f"{folder.name}/{path.name}" for path in writer.paths] for split, writer in written.items()
    }
    return files, {split: writer.rows for split, writer in written.items()}


def remove_unnamed(directory: Path) -> None:
    """Remove the data files that the card of a whole store does not name; they are of other generations."""
    for path in own_shards(directory) - {*shards(directory)}:
        path.unlink(missing_ok=True)


def own_shards(directory: Path) -> set[Path]:
    """The data files of all generations; a file of another name is somebody's own and is left alone."""
    return {path for path in (directory / "data").glob("*.parquet") if _SHARD.fullmatch(path.name)}


def shards(directory: Path) -> list[Path]:
    """The data files that a store's card names, in its order.

    Raises:
        StoreError: If the folder holds no store.
        DamagedStore: If the card cannot be read.
    """
    with explained(directory):
        return read_card(directory).paths(directory)


def committed_generation(directory: Path) -> str | None:
    """The first digits of a store's generation; None without a store."""
    return shards(directory)[0].name.split("-")[1] if is_store(directory) else None


def made_by(directory: str | Path) -> dict[str, Any]:
    """The record of how a store was made, from its `settings.json`; empty, with a warning, if it is lost.

    Raises:
        DamagedStore: If it is not what was written.
    """
    with explained(Path(directory)):
        try:
            return read_sealed(Path(directory) / SETTINGS)
        except FileNotFoundError:
            if is_store(Path(directory)):
                logger.warning("%s: missing; how its rows were made is not known", Path(directory) / SETTINGS)
            return {}


class _SplitWriter:
    """Writes the rows of one split as shards of `SHARD_BYTES` of media, in groups of rows."""

    def __init__(self, folder: Path, name: str, scores: Iterable[str]) -> None:
        self.folder, self.name = folder, name
        self.schema = features(scores).arrow_schema
        self.rows = 0
        self.paths: list[Path] = []
        self._writer: Any = None
        self._temporary: Path | None = None
        self._pending: list[Row] = []
        self._pending_bytes = self._shard_bytes = 0

    def add(self, row: Row) -> None:
        self._pending.append(row)
        self._pending_bytes += sum(len(row[name]["bytes"]) for name in MEDIA if row[name])
        self.rows += 1
        if len(self._pending) >= GROUP_ROWS or self._pending_bytes >= GROUP_BYTES:
            self._flush()
        if self._shard_bytes >= SHARD_BYTES:
            self._finish_shard()

    def close(self) -> None:
        if self._pending:
            self._flush()
        if self._writer:
            self._finish_shard()

    def _flush(self) -> None:
        import pyarrow
        import pyarrow.parquet

        if self._writer is None:
            self._temporary = temporary_for(self._path())
            self._writer = pyarrow.parquet.ParquetWriter(self._temporary, self.schema)
        self._writer.write_table(pyarrow.Table.from_pylist(self._pending, schema=self.schema))
        self._shard_bytes += self._pending_bytes
        self._pending, self._pending_bytes = [], 0

    def _finish_shard(self) -> None:
        assert self._temporary is not None
        self._writer.close()
        self.paths.append(publish_vouched(self._temporary, self._path()))
        self._writer, self._temporary, self._shard_bytes = None, None, 0

    def _path(self) -> Path:
        return self.folder / f"{self.name}-{len(self.paths):05d}.parquet"

    def discard(self) -> None:
        """Remove what was begun and not closed."""
        if self._temporary:
            with suppress(OSError):  # on a full disk, closing writes
                self._writer.close()
            self._temporary.unlink(missing_ok=True)


def _without_media(directory: Path, shard: Shard) -> pyarrow.Table:
    # Reading the short member `path` of a struct column is enough to know which structs are null.
    names = [f"{name}.path" if name in MEDIA else name for name in shard.file.schema_arrow.names]
    with reading(directory, shard.path):
        return _told_of_media(shard.file.read(names, use_threads=False))


def _no_rows() -> pyarrow.Table:
    return _told_of_media(features().arrow_schema.empty_table())


def _told_of_media(table: pyarrow.Table) -> pyarrow.Table:
    """The table with `has_video` and `has_audio` in the place of the media."""
    for name in MEDIA:
        index = table.column_names.index(name)
        table = table.set_column(index, f"has_{name}", table[name].is_valid())
    return table.replace_schema_metadata(None)

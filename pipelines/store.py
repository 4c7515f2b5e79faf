"""A store: a Hugging Face dataset on disk, replaced as a whole by one rename.

    data/train-<generation>-00000.parquet ...   rows, media inside
    README.md         the dataset card; its YAML names the data files
    settings.json     what made the store: configuration, versions, command
    failures.jsonl, status.json, works.json     see `pipelines.runner`

`commit` writes new shards under new names beside the old ones, and the card last. The card is the manifest:
when it is renamed into place, the new rows become the store; shards that it does not name are garbage.
"""

from __future__ import annotations

import bisect
import json
import os
from collections.abc import Iterable, Iterator
from functools import cached_property, lru_cache
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.atomic import write_json, write_text
from pipelines.errors import RunError
from pipelines.row import MEDIA, SPLITS, Row, features

if TYPE_CHECKING:
    import datasets
    import pyarrow
    import pyarrow.parquet

SHARD_BYTES = 512 * 2**20
GROUP_BYTES = 32 * 2**20  # the Hub's viewer wants row groups under 100 MB
GROUP_ROWS = 64
GENERATION_DIGITS = 12


class StoreError(RunError):
    """A folder is not a store, or a store has no such row."""


def open_store(directory: str | Path) -> datasets.Dataset:
    """All rows of a store as one dataset, media undecoded.

    Raises:
        StoreError: If the folder holds no store.
    """
    import datasets

    files = [str(path) for path in shards(Path(directory))]
    return datasets.load_dataset("parquet", data_files=files, split="train")


class StoreReader:
    """Rows of a store by position or id; reads only the row groups that are needed.

    Attributes:
        directory: The store.
        table: All rows in the store's order, with `has_video` and `has_audio` instead of the media.
    """

    def __init__(self, directory: str | Path) -> None:
        import pyarrow

        self.directory = Path(directory)
        self._files = _open_shards(self.directory)
        self.table: pyarrow.Table = pyarrow.concat_tables(map(_without_media, self._files))
        self._groups = [
            (file, group, file.metadata.row_group(group).num_rows)
            for file in self._files
            for group in range(file.num_row_groups)
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
        file, number, _ = self._groups[group]
        return file.read_row_group(number)


def _open_shards(directory: Path) -> list[pyarrow.parquet.ParquetFile]:
    """A store's files, all of one generation, even if another process commits the next meanwhile."""
    import pyarrow.parquet

    while True:
        paths = shards(directory)
        try:
            return [pyarrow.parquet.ParquetFile(path) for path in paths]
        except FileNotFoundError:
            if paths == shards(directory):
                raise


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
    if committed_generation(directory) == name:
        written = StoreReader(directory).table["split"].to_pylist()
        return {split: written.count(split) for split in SPLITS if split in written}
    writers = {split: _SplitWriter(directory / "data", f"{split}-{name}", scores) for split in SPLITS}
    for row in rows:
        writers[row["split"]].add(row)
    for writer in writers.values():
        writer.close()
    files = {split: writer.paths for split, writer in writers.items() if writer.paths}
    if not files:
        raise StoreError(f"{directory}: no row is left to write; failures.jsonl there says why")
    write_json(directory / "settings.json", settings)
    counts = {split: writers[split].rows for split in files}
    write_text(directory / "README.md", _card(directory, files, counts, settings))
    named = {path for paths in files.values() for path in paths}
    for path in (directory / "data").glob("*.parquet"):
        if path not in named:  # of an earlier generation
            path.unlink()
    return counts


def is_store(directory: str | Path) -> bool:
    """Whether a folder holds a committed store."""
    return (Path(directory) / "README.md").is_file()


def committed_generation(directory: Path) -> str | None:
    """The first digits of a store's generation; None without a store."""
    return shards(directory)[0].name.split("-")[1] if is_store(directory) else None


def made_by(directory: str | Path) -> dict[str, Any]:
    """The record of how a store was made, from its `settings.json`; empty if it has none."""
    path = Path(directory) / "settings.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


class _SplitWriter:
    """Writes the rows of one split as shards of `SHARD_BYTES` of media, in groups of rows."""

    def __init__(self, folder: Path, name: str, scores: Iterable[str]) -> None:
        self.folder, self.name = folder, name
        self.schema = features(scores).arrow_schema
        self.rows = 0
        self.paths: list[Path] = []
        self._writer: Any = None
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
            self.folder.mkdir(parents=True, exist_ok=True)
            self.paths.append(self.folder / f"{self.name}-{len(self.paths):05d}.parquet")
            self._writer = pyarrow.parquet.ParquetWriter(self.paths[-1], self.schema)
        self._writer.write_table(pyarrow.Table.from_pylist(self._pending, schema=self.schema))
        self._shard_bytes += self._pending_bytes
        self._pending, self._pending_bytes = [], 0

    def _finish_shard(self) -> None:
        self._writer.close()
        self._writer, self._shard_bytes = None, 0
        with self.paths[-1].open("rb") as shard:
            os.fsync(shard.fileno())


def shards(directory: Path) -> list[Path]:
    """The data files that a store's card names, in its order."""
    from huggingface_hub import DatasetCard

    if not is_store(directory):
        raise StoreError(
            f"{directory}: not a store (no README.md dataset card there); make one with `daq-msa import`"
            " or give the --out folder of an earlier stage that has ended"
        )
    configs = DatasetCard.load(directory / "README.md").data.to_dict().get("configs") or []
    names = [name for config in configs for split in config["data_files"] for name in split["path"]]
    missing = [name for name in names if not (directory / name).is_file()]
    if missing or not names:
        raise StoreError(f"{directory}/README.md: the card names no data files, or missing ones: {missing}")
    return [directory / name for name in names]


def _without_media(file: pyarrow.parquet.ParquetFile) -> pyarrow.Table:
    # Reading the short member `path` of a struct column is enough to know which structs are null.
    names = [f"{name}.path" if name in MEDIA else name for name in file.schema_arrow.names]
    table = file.read(names)
    for name in MEDIA:
        index = table.column_names.index(name)
        table = table.set_column(index, f"has_{name}", table[name].is_valid())
    return table.replace_schema_metadata(None)


def _card(
    directory: Path, files: dict[str, list[Path]], counts: dict[str, int], settings: dict[str, Any]
) -> str:
    from huggingface_hub import DatasetCardData

    data_files = [
        {"split": split, "path": [path.relative_to(directory).as_posix() for path in paths]}
        for split, paths in files.items()
    ]
    header = DatasetCardData(
        configs=[{"config_name": "default", "data_files": data_files}],
        tags=["daq-msa", "multimodal-sentiment-analysis"],
        size_categories=None,
    )
    table = "\n".join(f"| {split} | {count} |" for split, count in counts.items())
    notes = "".join(f"{note}\n\n" for note in settings.get("notes", ()))
    made_by = "\n".join(f"- {name} {version}" for name, version in settings["versions"].items())
    return f"""---
{header.to_yaml()}
---
# {settings["title"]}

{settings["description"]}

{notes}| split | rows |
|---|---|
{table}

A row is one clip or one variant of one: `kind` says which, `source_id` names the original, `generator` holds
everything that is needed to make a variant again, and `weight` says how far the row is to be trusted (1 for
originals). Video is H.264 without sound, audio is mono FLAC at 16 kHz; both are bytes in the row and stay
undecoded when the dataset is loaded. `settings.json` has the whole configuration.

Made by

{made_by}
"""

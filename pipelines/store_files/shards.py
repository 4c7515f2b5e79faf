"""The shards of a store: opened if they are those that the card names, with the content that was written.

Damage is a `DamagedStore`, one line with the file, what is wrong and how to make it again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pipelines.atomic import DamagedFile
from pipelines.errors import listed
from pipelines.store_files.card import CARD, Card, DamagedStore, read_card
from pipelines.store_files.checksums import is_vouched, read_sealed, verify
from pipelines.store_files.parquet import open_file, parsing, read_group

if TYPE_CHECKING:
    import pyarrow.parquet

logger = logging.getLogger(__name__)


class Shard(NamedTuple):
    """One data file of a store, open."""

    path: Path
    file: pyarrow.parquet.ParquetFile


def open_shards(directory: Path, *, thorough: bool = False) -> list[Shard]:
    """A store's files, all of one generation, even if another process commits the next meanwhile.

    Args:
        directory: The store.
        thorough: Decode shards that have no digest.

    Raises:
        StoreError: If the folder holds no store.
        DamagedStore: If a shard is missing or has another content than was written, or rows are missing.
    """
    while True:
        with explained(directory):
            card = read_card(directory)
        try:
            return _open_named(directory, card, thorough)
        except DamagedStore:
            if card == read_card(directory):
                raise


def _open_named(directory: Path, card: Card, thorough: bool) -> list[Shard]:
    missing = [name for names in card.files.values() for name in names if not (directory / name).is_file()]
    if missing:
        raise damage(directory, f"{directory / CARD}: names data files that are missing: {listed(missing)}")
    opened = {}
    for split, names in card.files.items():
        opened[split] = [open_shard(directory, directory / name, thorough=thorough) for name in names]
    for split, files in opened.items():
        found, wanted = sum(shard.file.metadata.num_rows for shard in files), card.rows.get(split)
        if wanted is not None and found != wanted:
            problem = f"counts {wanted} rows of {split}, but the files that it names have {found}"
            raise damage(directory, f"{directory / CARD}: damaged: it {problem}")
    return [shard for files in opened.values() for shard in files]


def open_shard(directory: Path, path: Path, *, thorough: bool = False) -> Shard:
    """One shard of a store, verified if it has a digest, else decoded if that is asked for.

    Raises:
        DamagedStore: If it has another content than was written.
    """
    with reading(directory, path):
        verify(path)
        file = open_file(path)
        if thorough and not is_vouched(path):
            for group in range(file.num_row_groups):
                read_group(file, group).to_pylist()
    return Shard(path, file)


def open_intact(directory: Path, generation: str) -> list[Shard]:
    """The shards of a generation that are whole, whatever the card says; a warning tells of each other."""
    files = []
    for path in sorted((directory / "data").glob(f"*-{generation}-*.parquet")):
        try:
            files.append(open_shard(directory, path, thorough=True))
        except DamagedStore as error:
            logger.warning("%s", str(error).partition(";")[0])
    return files


@contextmanager
def reading(directory: Path, path: Path) -> Iterator[None]:
    """Turn what a broken shard raises into `DamagedStore`."""
    with explained(directory):
        try:
            with parsing(path):
                yield
        except FileNotFoundError as error:
            raise DamagedFile(f"{path}: missing") from error


@contextmanager
def explained(directory: Path) -> Iterator[None]:
    """Add to what is wrong with the card or a record of a store how to make it again."""
    try:
        yield
    except (DamagedFile, DamagedStore) as error:
        raise damage(directory, str(error)) from error


def damage(directory: Path, problem: str) -> DamagedStore:
    """The error about a store's file, with the command that makes it again."""
    return DamagedStore(f"{problem}; {_way_out(directory)}")


def _way_out(directory: Path) -> str:
    again = f"give the command that made {directory} once more, which makes again what is lost"
    try:
        command: Any = read_sealed(directory / "settings.json").get("command")
    except (OSError, DamagedFile):
        command = None
    return f"{again}: {command}" if isinstance(command, str) else again

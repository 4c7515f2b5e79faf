"""`daq-msa check`: reads all files of a store, or of each store in a folder, and names the damaged ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from pipelines.atomic import DamagedFile, json_lines
from pipelines.errors import RunError, reason
from pipelines.finished_tasks import FAILURES, WORKS
from pipelines.store_files.card import CARD, DamagedStore, StoreError, is_store, read_card
from pipelines.store_files.checksums import read_sealed, unsealed, verify
from pipelines.store_files.parquet import parsing, read_table
from pipelines.store_files.shards import open_shard, open_shards
from pipelines.untrusted.plain_json import parsed_json

STATUS = "status.json"
SETTINGS = "settings.json"


class DamageFound(RunError):
    """A checked store is damaged."""


def check(directory: Path, say: Callable[[str], None] = print) -> None:
    """Print one line for each damaged file, and a summary of each store.

    Args:
        directory: A store, also an unfinished one, or a folder of stores.
        say: Prints a line.

    Raises:
        RunError: If there is no store.
        DamageFound: If a file is damaged.
    """
    if not directory.is_dir():
        raise RunError(f"{directory}: no such folder; name a store or a run's folder")
    stores = [folder for folder in (directory, *sorted(directory.glob("*/"))) if _is_of_a_stage(folder)]
    if not stores:
        raise RunError(f"{directory}: no store there or one folder down; name a store or a run's folder")
    total = 0
    for store in stores:
        damaged = list(damages(store))
        for line in damaged:
            say(line)
        rows = f"{_rows(store)} rows" if is_store(store) else "not finished"
        say(f"{store}: {rows}, {_files_told(len(damaged))}")
        total += len(damaged)
    if total:
        raise DamageFound(
            f"{directory}: {_files_told(total)}, named above; give the commands that made these stores once"
            " more, which makes again what is lost"
        )


def damages(store: Path) -> Iterator[str]:
    """What is wrong with each damaged file of a store."""
    for path, read in _files(store):
        try:
            read(path)
        except FileNotFoundError:
            yield f"{path}: missing"
        except OSError as error:
            yield f"{path}: cannot be read ({reason(error)})"
        except DamagedFile as error:
            yield str(error)
        except DamagedStore as error:
            yield str(error).partition(";")[0]


def _files_told(count: int) -> str:
    return f"{count or 'no'} damaged {'files' if count > 1 else 'file'}"


def _is_of_a_stage(folder: Path) -> bool:
    return (is_store(folder) and (folder / "data").is_dir()) or any(
        (folder / name).exists() for name in (WORKS, "parts")
    )


def _files(store: Path) -> Iterator[tuple[Path, Callable[[Path], object]]]:
    """The files that are there or should be, each with what reads it whole."""
    if is_store(store) or _is_committed(store):
        yield store / CARD, lambda path: _read_manifest(path.parent)
        yield from ((path, lambda path: open_shard(store, path, thorough=True)) for path in _named(store))
    by_name: dict[str, Callable[[Path], object]] = {
        SETTINGS: read_sealed, WORKS: read_sealed, FAILURES: _read_failures, STATUS: _read_json,
    }  # fmt: skip
    # A store from the Hub has neither of these two.
    of_a_stage = is_store(store) and any((store / name).exists() for name in (STATUS, WORKS))
    for name, read in by_name.items():
        if of_a_stage or (store / name).exists():
            yield store / name, read
    yield from ((path, _read_json) for path in sorted(store.glob("*.json")) if path.name not in by_name)
    yield from ((path, _read_table) for path in sorted(store.glob("*.parquet")))
    parts = store / "parts"
    yield from ((path, _read_table) for path in sorted(parts.glob("*/*.parquet")))
    yield from ((path, read_sealed) for path in sorted(parts.glob("*/*.failed.json")))


def _is_committed(store: Path) -> bool:
    """Whether the index says that the stage's store was written, and that no other one is being written."""
    try:
        index = read_sealed(store / WORKS)
    except (OSError, DamagedFile):
        return False
    return bool(index.get("generation")) and "next" not in index


def _named(store: Path) -> list[Path]:
    try:
        return [path for path in read_card(store).paths(store) if path.is_file()]
    except (OSError, StoreError):
        return []


def _read_manifest(store: Path) -> None:
    """Hold the card against the shards, unless they are damaged themselves."""
    if not is_store(store):
        raise FileNotFoundError(store / CARD)
    read_card(store)
    try:
        open_shards(store)
    except DamagedStore as error:
        if str(error).startswith(str(store / CARD)):
            raise


def _rows(store: Path) -> int | str:
    try:
        return sum(shard.file.metadata.num_rows for shard in open_shards(store))
    except (OSError, DamagedStore):
        return "unknown"


def _read_json(path: Path) -> None:
    try:
        parsed_json(path.read_bytes())
    except ValueError as error:
        raise DamagedFile(f"{path}: damaged: {error}") from error


def _read_failures(path: Path) -> None:
    if not path.exists():
        raise FileNotFoundError(path)
    for number, line in json_lines(path):
        try:
            unsealed(parsed_json(line))
        except ValueError as error:
            raise DamagedFile(f"{path}: line {number} is damaged: {error}") from error


def _read_table(path: Path) -> None:
    verify(path)
    with parsing(path):
        read_table(path).to_pylist()

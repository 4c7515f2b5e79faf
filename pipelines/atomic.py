"""Files that are there whole or not at all: written beside their place, then renamed into it."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path to write to, which takes the place of `path` when the block ends well.

    The data is on disk before the name changes, so after a crash `path` holds the old or the
    new content. Where the block raises, `path` stays as it was and the temporary file goes. The file
    may be read by whom files that this process makes may be: safetensors would keep it to its owner.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.chmod(mode)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Put `text` at `path` as UTF-8."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Put a value's JSON at `path`, indented, for people to read too."""
    write_text(path, strict_json(value, indent=2) + "\n")


def write_json_lines(path: Path, values: list[dict[str, Any]]) -> None:
    """Put one JSON object a line at `path`."""
    write_text(path, "".join(strict_json(value) + "\n" for value in values))


def write_table(path: Path, table: pyarrow.Table) -> None:
    """Put a table at `path` as Parquet."""
    import pyarrow.parquet

    with replacing(path) as temporary:
        pyarrow.parquet.write_table(table, temporary)


def strict_json(value: Any, indent: int | None = None) -> str:
    """A value as JSON that every reader takes: NaN and infinity, for which JSON has no word, become null."""
    return json.dumps(_without_nan(value), indent=indent, ensure_ascii=False, allow_nan=False)


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON-lines file; none where the file is missing."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]

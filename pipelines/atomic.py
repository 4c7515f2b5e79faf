"""Files that are complete or absent: written to a temporary file, then renamed."""

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
    """A temporary path to write to, which replaces `path` at the end of the block.

    The data is on disk before the rename, so after a crash `path` has the old or the new content. If the
    block raises, `path` stays as it was and the temporary file is removed. The file gets the default
    permissions of this process: safetensors would make it readable to its owner only.
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
    """Write `text` to `path` as UTF-8."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write a value's JSON to `path`, indented to be readable."""
    write_text(path, strict_json(value, indent=2) + "\n")


def write_json_lines(path: Path, values: list[dict[str, Any]]) -> None:
    """Write one JSON object per line to `path`."""
    write_text(path, "".join(strict_json(value) + "\n" for value in values))


def write_table(path: Path, table: pyarrow.Table) -> None:
    """Write a table to `path` as Parquet."""
    import pyarrow.parquet

    with replacing(path) as temporary:
        pyarrow.parquet.write_table(table, temporary)


def strict_json(value: Any, indent: int | None = None) -> str:
    """A value as strict JSON: NaN and infinity, which JSON does not have, become null."""
    return json.dumps(_without_nan(value), indent=indent, ensure_ascii=False, allow_nan=False)


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON-lines file; none if the file is missing."""
    if not path.exists():
        return []
    # Not `splitlines`: a text may hold line ends of Unicode, which JSON leaves as they are.
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]

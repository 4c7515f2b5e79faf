"""Files that are complete or absent: written to a temporary file, then renamed.

When a writer here returns, the file and the folders that lead to it are on disk, so a marker that is written
next never vouches for something that a loss of power takes away.
"""

from __future__ import annotations

import errno
import json
import logging
import math
import os
import platform
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.errors import RunError
from pipelines.untrusted.plain_json import parsed_json

if TYPE_CHECKING:
    import pyarrow

logger = logging.getLogger(__name__)

_OF_A_LIBRARY = ".tmp??????"  # safetensors writes to such a name first, which does not tell who writes
_TEMPORARY = re.compile(r"\..+\.(?P<process>\d+)(@(?P<host>.+))?\.tmp", re.DOTALL)
ABANDONED_S = 24 * 3600


class DamagedFile(RunError):
    """A file does not hold what was written to it."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path to write to, which replaces `path` at the end of the block.

    After a crash `path` has the old or the new content. If the block raises, `path` stays as it was and the
    temporary file is removed; so are those that killed processes left of `path`. The file gets the default
    permissions of this process: safetensors would make it readable to its owner only.
    """
    temporary = temporary_for(path)
    sweep(path.parent, path.name)
    try:
        temporary.touch()
        mode = temporary.stat().st_mode
        yield temporary
        temporary.chmod(mode)
        publish(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def temporary_for(path: Path) -> Path:
    """A name beside `path` to write to, which tells who writes; the folder is made if it is missing."""
    make_folder(path.parent)
    return path.with_name(f".{path.name}.{os.getpid()}@{platform.node()}.tmp")


def publish(temporary: Path, path: Path) -> None:
    """Rename a file that is written to its final name; both are on disk afterwards."""
    with temporary.open("rb") as written:
        os.fsync(written.fileno())
    temporary.replace(path)
    sync_folder(path.parent)


def make_folder(folder: Path) -> None:
    """Make a folder and those that lead to it, and see to it that they are on disk."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for each in missing:
        sync_folder(each.parent)


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network disks cannot do this
            raise
    finally:
        os.close(descriptor)


def sweep(folder: Path, name: str | None = None, *, alone: bool = False) -> None:
    """Remove the temporary files in a folder that no living process can be writing.

    Call it before this process writes there. Whether a process of another host lives is not known, nor who
    writes what a library has named; these count as abandoned after `ABANDONED_S`.

    Args:
        folder: The folder.
        name: The file whose temporary files are meant; None for all files.
        alone: Whether no other process writes there, so that what libraries have named is abandoned.
    """
    for pattern in (".*.tmp" if name is None else f".{escape(name)}.*.tmp", _OF_A_LIBRARY):
        for path in folder.glob(pattern):
            with suppress(FileNotFoundError):
                if path.is_file() and _is_abandoned(path, alone):
                    path.unlink()
                    logger.info("%s: removed, left by a process that was killed", path)


def _is_abandoned(path: Path, alone: bool) -> bool:
    is_old = time.time() - path.stat().st_mtime > ABANDONED_S
    if fnmatchcase(path.name, _OF_A_LIBRARY):
        return alone or is_old
    writer = _TEMPORARY.fullmatch(path.name)
    if writer is None:
        return False
    if writer["host"] not in (None, platform.node()):
        return is_old
    process = int(writer["process"])
    if process == os.getpid():  # of an earlier process with the same number, as in a container
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:  # of another user
        return False
    return False


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
        pyarrow.parquet.write_table(table, temporary, write_page_checksum=True)


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
    """The objects of a JSON-lines file; none if the file is missing.

    Raises:
        DamagedFile: If a line is no JSON object.
    """
    values = []
    for number, line in json_lines(path):
        try:
            value = parsed_json(line)
        except ValueError as error:
            raise DamagedFile(f"{path}: line {number} is damaged: it is no JSON ({error})") from error
        if not isinstance(value, dict):
            raise DamagedFile(f"{path}: line {number} is damaged: it is no JSON object")
        values.append(value)
    return values


def json_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines of a JSON-lines file that are not empty, with their numbers; none if it is missing."""
    if path.exists():
        # Not `splitlines`: a string in JSON may hold other characters that end a line of text.
        lines = path.read_bytes().split(b"\n")
        yield from ((number, line) for number, line in enumerate(lines, start=1) if line.strip())

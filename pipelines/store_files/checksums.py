"""Digests that stand with what they vouch for, so that damage is found when a file is read.

A JSON object carries its own, under `sha256`. A data file has the first digits of it in its name,
`<stem>-<digest>.parquet`, so that the card that names the file vouches for its content. What was written
without a digest, by an earlier version, is taken as it is.
"""

from __future__ import annotations

import hashlib
import json
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from pipelines.atomic import DamagedFile, publish, strict_json, write_json
from pipelines.row import digest
from pipelines.untrusted.plain_json import parsed_json

KEY = "sha256"
DIGITS = 16
_VOUCHED = re.compile(rf".*-([0-9a-f]{{{DIGITS}}})\.[a-z]+", re.DOTALL)


def sealed(value: dict[str, Any]) -> dict[str, Any]:
    """A JSON object with its own digest."""
    return value | {KEY: digest(json.loads(strict_json(value)))}


def unsealed(value: Any) -> dict[str, Any]:
    """A JSON object without its digest, which must be its own if it has one.

    Raises:
        ValueError: If it is another's, or this is no object.
    """
    if not isinstance(value, dict):
        raise ValueError("it is no JSON object")
    content = {name: each for name, each in value.items() if name != KEY}
    if KEY in value and value[KEY] != digest(content):
        raise ValueError(f"its content is not what its {KEY} vouches for")
    return content


def write_sealed(path: Path, value: dict[str, Any]) -> None:
    """Write a JSON object with its own digest."""
    write_json(path, sealed(value))


def read_sealed(path: Path) -> dict[str, Any]:
    """The JSON object in a file, without its digest.

    Raises:
        DamagedFile: If it is not what was written.
    """
    try:
        return unsealed(parsed_json(path.read_bytes()))
    except ValueError as error:
        raise DamagedFile(f"{path}: damaged: {error}") from error


def publish_vouched(temporary: Path, path: Path) -> Path:
    """Rename a file that is written to `path` with the digest of its content before the suffix."""
    with temporary.open("rb") as file:
        name = f"{path.stem}-{hashlib.file_digest(file, 'sha256').hexdigest()[:DIGITS]}{path.suffix}"
    publish(temporary, path.with_name(name))
    return path.with_name(name)


def is_vouched(path: Path) -> bool:
    """Whether a file's name vouches for its content."""
    return _VOUCHED.fullmatch(path.name) is not None


def verify(path: Path) -> None:
    """Read a whole file once in this process, to hold it against the digest in its name if it has one.

    Raises:
        DamagedFile: If its content is another.
    """
    if is_vouched(path):
        state = path.stat()
        _compare(path, _file_digest(path, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns))


def read_verified(path: Path) -> bytes:
    """A file's content, held against the digest in its name if it has one.

    Raises:
        DamagedFile: If its content is another.
    """
    content = path.read_bytes()
    _compare(path, hashlib.sha256(content).hexdigest())
    return content


@lru_cache(maxsize=4096)
def _file_digest(path: Path, *_: int) -> str:
    """The digest of a file's content, computed again when its state on disk is another."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _compare(path: Path, found: str) -> None:
    vouched = _VOUCHED.fullmatch(path.name)
    if vouched and not found.startswith(vouched[1]):
        raise DamagedFile(
            f"{path}: damaged: the SHA-256 of its content begins with {found[:DIGITS]}, wanted is the"
            f" {vouched[1]} in its name"
        )

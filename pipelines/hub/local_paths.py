"""Copies of a store's files without the paths of the machine that made them.

Paths tell user names, projects and machines. Of a path its last part is left, `/home/ann/clips/label.csv`
becomes `label.csv`, and nothing of one that ends in a user's folder. What is no path stays as it is to the
byte, so the same store always gives the same copies.
"""

from __future__ import annotations

import getpass
import hashlib
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.atomic import strict_json
from pipelines.errors import RunError
from pipelines.store_files.parquet import open_file, read_group
from pipelines.untrusted.plain_json import parsed_json

if TYPE_CHECKING:
    import pyarrow

# A folder's name may have spaces, but does not go on behind `: `, `, ` and the like, or a file's suffix.
_SPACE = r"(?<![,:;.!?])(?<!\.\w\w)(?<!\.\w{3})(?<!\.\w{4}) "
_FOLDERS = rf"""(?:[^\s/\\"'`<>|]+(?:{_SPACE}[^\s/\\"'`<>|-][^\s/\\"'`<>|]*){{0,5}}[/\\]+)*"""
_LAST = r"""([^\s/\\"'`<>|:;,()\[\]]*)"""
_START = (
    r"file:/+"
    r"|(?<![A-Za-z])[A-Za-z]:(?:/(?!/)|\\+)"  # a drive of Windows
    r"|(?<!\\)\\\\+(?=[\w.-]+\\)"  # a share of Windows
    r"|(?<![\w.~/])(?:~[\w.-]*|\.\.)[/\\]+"
    r"|(?:(?<![\w.~/\\:<)\]}-])/+|(?<=:)/(?!/))(?=[^\W\d_]|[._]|\d[^\s/]*/)"
)
_PATH = re.compile(f"(?:{_START}){_FOLDERS}{_LAST}")
_HOMES = re.compile(r"(?:home|Users)[/\\]+[^/\\]+[/\\]*$|[/\\]root[/\\]*$|~[\w.-]*[/\\]*$")
# Up to the last part of any path of a command line: options of models are in the configuration in full.
_RELATIVE = re.compile(r"""[^\s'"=]*/(?=[^\s'"/])""")
# Settings that are paths even where they are relative; others may be names on the Hub.
_PATH_KEYS = frozenset({"path", "folder", "inversions"})
# An id that is made of a path has it behind the corpus' name.
_LOCAL_ID = re.compile(r"^[/~]|(?<!:)//|(?:^|/)(?:\.\.|[A-Za-z]:)(?:[/\\]|$)")
_DIGEST = re.compile(r"(-[0-9a-f]{16})?\.parquet$")
NOWHERE = "(local)"


class LocalPathError(RunError):
    """A file cannot be rid of local paths."""


def without_paths(text: str) -> str:
    """A text with the last part of each path that is absolute, leads up or begins at a home."""
    return _PATH.sub(_last_part, _home().sub("~", text))


def _last_part(match: re.Match[str]) -> str:
    last = match[1]
    return NOWHERE if last in ("", ".", "..", _user()) or _HOMES.search(match[0]) else last


@cache
def _home() -> re.Pattern[str]:
    home = Path.home()
    named = re.escape(str(home)) if home.name else "(?!)"  # in some containers it is the root
    return re.compile(rf"{named}(?!\w)")


@cache
def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # some containers' users have no name
        return ""


def cleaned(value: Any, key: str = "") -> Any:
    """A JSON value whose strings have no local paths; `key` is its key in the object that holds it."""
    if isinstance(value, dict):
        return {name: cleaned(each, name) for name, each in value.items()}
    if isinstance(value, list):
        return [cleaned(each, key) for each in value]
    if not isinstance(value, str):
        return value
    text = without_paths(value)
    if key == "command":
        return _RELATIVE.sub("", text)
    return re.split(r"[/\\]", text.rstrip("/\\"))[-1] if key in _PATH_KEYS else text


def clean_record(path: Path) -> bytes:
    """The content of a text file of a store without local paths.

    Raises:
        LocalPathError: If it is none of the text, JSON or JSON lines that its name says.
    """
    content = path.read_bytes()
    try:
        text = content.decode()
        if path.suffix == ".json":
            made = _clean_json(text, indent=2)
        elif path.suffix == ".jsonl":
            made = "".join(map(_clean_line, text.splitlines(keepends=True)))
        else:
            made = without_paths(text)
    except ValueError as error:
        raise LocalPathError(
            f"{path}: damaged, so it is not known whether it tells local paths ({error}); make it again with"
            " the command that made the store"
        ) from error
    return content if made == text else made.encode()


def _clean_json(text: str, indent: int | None = None) -> str:
    value = parsed_json(text)
    made = cleaned(value)
    if made == value:
        return text
    if isinstance(made, dict):
        made.pop("sha256", None)  # a digest that the file carries of its own content is that of another one
    return strict_json(made, indent=indent) + "\n"


def _clean_line(line: str) -> str:
    return _clean_json(line) if line.strip() else line


def clean_shard(shard: Path, folder: Path) -> Path:
    """A shard whose rows' column `generator` tells no local paths.

    Args:
        shard: A data file of a store.
        folder: Where a copy is written if one is needed; its name has the digest of its content.

    Returns:
        The shard itself, or the copy.

    Raises:
        LocalPathError: If a row's id or group is a local path: other rows refer to it.
    """
    file = open_file(shard)
    names = [name for name in ("id", "group", "generator") if name in file.schema_arrow.names]
    table = file.read(names, use_threads=False)
    for column in {"id", "group"} & set(names):
        for value in filter(None, table[column].unique().to_pylist()):
            if _LOCAL_ID.search(value):
                raise LocalPathError(
                    f"{shard}: the {column} {value!r} is a local path, which is not pushed; give the"
                    f" corpus' table a column {column} of its own, and import it again"
                )
    if "generator" not in names or all(text == _clean_generator(text) for text in _texts(table)):
        return shard
    return _rewritten(file, shard, folder)


def _rewritten(file: pyarrow.parquet.ParquetFile, shard: Path, folder: Path) -> Path:
    import pyarrow
    import pyarrow.parquet

    copy = folder / shard.name
    index = file.schema_arrow.get_field_index("generator")
    with pyarrow.parquet.ParquetWriter(copy, file.schema_arrow) as writer:
        for group in range(file.num_row_groups):
            table = read_group(file, group)
            texts = [_clean_generator(text) for text in _texts(table)]
            column = pyarrow.array(texts, type=file.schema_arrow.field(index).type)
            table = table.set_column(index, file.schema_arrow.field(index), column)
            writer.write_table(table, row_group_size=max(1, len(texts)))
    with copy.open("rb") as written:
        digest = hashlib.file_digest(written, "sha256").hexdigest()[:16]
    return copy.rename(copy.with_name(_DIGEST.sub(f"-{digest}.parquet", copy.name)))


def _texts(table: pyarrow.Table) -> Iterator[str | None]:
    return iter(table["generator"].to_pylist())


def _clean_generator(text: str | None) -> str | None:
    if text is None:
        return None
    try:
        value = parsed_json(text)
    except ValueError:
        return without_paths(text)
    made = cleaned(value)
    return text if made == value else json.dumps(made, ensure_ascii=False, sort_keys=True)

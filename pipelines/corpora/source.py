"""The source of a row: a line of a table, and the digest of its media file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.decoding.source_file import sha256
from pipelines.decoding.utf8 import escaped, is_utf8
from pipelines.media_types import MediaError

if TYPE_CHECKING:
    from pipelines.corpora.table import BadLine, Clip


@dataclass(frozen=True, kw_only=True)
class Source:
    """The source of a row."""

    line: Clip | BadLine
    sha256: str | None = None  # of the media file, in hex; None if there is none that can be read
    name: str | None = None  # the file's path in the corpus
    refusal: str | None = None  # why the file cannot be read


def source_of(clip: Clip, root: Path) -> Source:
    """A clip with the digest of its file, or with what is wrong with the file.

    Args:
        clip: Of a corpus.
        root: The folder that files are named relative to.

    Raises:
        MachineFault: If the file cannot be read by the machine's fault.
    """
    if clip.path is None:
        return Source(line=clip)
    name = Path(os.path.relpath(clip.path, root)).as_posix()
    if not is_utf8(name):
        refusal = f"{escaped(str(clip.path))}: its name or folder is not UTF-8; rename it"
        return Source(line=clip, name=escaped(name), refusal=refusal)
    try:
        return Source(line=clip, name=name, sha256=sha256(clip.path))
    except MediaError as error:
        return Source(line=clip, name=name, refusal=str(error))


def check_unchanged(source: Source, path: Path) -> None:
    """Refuse a file that was read, if its content is not the one of its digest any more.

    Raises:
        MediaError: If it was changed, or cannot be read any more.
        MachineFault: If that is the machine's fault.
    """
    if sha256(path) != source.sha256:
        raise MediaError(
            f"{path}: was changed while it was imported; give the same command again once it is whole"
        )

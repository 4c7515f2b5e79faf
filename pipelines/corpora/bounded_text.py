"""Opens the file of a table: a regular one, in UTF-8, whose size and lines have limits."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipelines.decoding.source_file import opened
from pipelines.errors import RunError
from pipelines.media_types import MediaError
from pipelines.running.machine_faults import refuse_fault

MAX_BYTES = 2**30
MAX_LINE = 2**20  # characters


class CorpusError(RunError):
    """A corpus cannot be imported. The message names the file, the lines and the reason."""


@contextmanager
def lines_of(path: Path) -> Iterator[Iterator[str]]:
    """The lines of a CSV, with their ends; for the block in which it is parsed.

    Raises:
        CorpusError: If the file cannot be read, is too large, is not UTF-8, or is no CSV.
    """
    count = 0

    def bounded(text: io.TextIOWrapper) -> Iterator[str]:
        nonlocal count
        while line := text.readline(MAX_LINE + 1):
            count += 1
            if len(line) > MAX_LINE:
                raise csv.Error(f"it has more than {MAX_LINE} characters")
            yield line

    try:
        with _text(path) as text:
            yield bounded(text)
    except csv.Error as error:
        raise CorpusError(f"{path}: is no CSV, line {count}: {error}") from error


def text_of(path: Path) -> str:
    """The text of a file.

    Raises:
        CorpusError: If it cannot be read, is too large, or is not UTF-8.
    """
    with _text(path) as text:
        return text.read()


@contextmanager
def _text(path: Path) -> Iterator[io.TextIOWrapper]:
    """A file's text, with the line ends that it has."""
    try:
        with opened(path) as file, io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
            size = os.fstat(file.fileno()).st_size
            if size > MAX_BYTES:
                raise CorpusError(f"{path}: has {size} bytes, the limit of a table is {MAX_BYTES}")
            yield text
    except MediaError as error:
        raise CorpusError(f"{error}; it is the table of the corpus") from error
    except UnicodeDecodeError as error:
        raise CorpusError(f"{path}: is not UTF-8 (byte {error.start}); save the table as UTF-8") from error
    except OSError as error:
        refuse_fault(error, str(path))
        raise CorpusError(
            f"{path}: cannot be read ({error.strerror}); it is the table of the corpus"
        ) from error

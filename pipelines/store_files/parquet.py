"""Parquet files, read so that damage of a file and a fault of the machine are told apart.

Arrow decodes in the calling thread: where a limit of memory or of processes lets no thread start, a pool of
threads may wait for ever. For a file on disk Arrow still starts one thread, and raises if it cannot.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.atomic import DamagedFile
from pipelines.errors import reason
from pipelines.running.machine_faults import machine_fault

if TYPE_CHECKING:
    import pyarrow
    from pyarrow.parquet import ParquetFile


def open_file(source: Path | bytes) -> ParquetFile:
    """A Parquet file on disk or in memory; pages that have checksums are compared with them when read."""
    import pyarrow
    import pyarrow.parquet

    given = pyarrow.BufferReader(source) if isinstance(source, bytes) else source
    return pyarrow.parquet.ParquetFile(given, page_checksum_verification=True)


def read_table(source: Path | bytes, columns: Sequence[str] | None = None) -> pyarrow.Table:
    """A Parquet file's rows, or some of its columns.

    Raises:
        pyarrow.ArrowInvalid: If it is no Parquet, or lacks a column.
    """
    import pyarrow

    file = open_file(source)
    lacking = [name for name in columns or () if name not in file.schema_arrow.names]
    if lacking:
        raise pyarrow.ArrowInvalid(f"it lacks the columns {', '.join(lacking)}")
    return file.read(columns, use_threads=False)


def read_group(file: ParquetFile, group: int) -> pyarrow.Table:
    """One group of an open file's rows."""
    return file.read_row_group(group, use_threads=False)


@contextmanager
def parsing(path: Path) -> Iterator[None]:
    """Turn what pyarrow says of a file whose content is broken into `DamagedFile`."""
    import pyarrow

    try:
        yield
    except (pyarrow.ArrowException, ValueError, OSError) as error:
        # An error of the system has a number; one of pyarrow about the content has none.
        if (isinstance(error, OSError) and error.errno is not None) or machine_fault(error):
            raise
        raise DamagedFile(f"{path}: damaged: {reason(error)}") from error

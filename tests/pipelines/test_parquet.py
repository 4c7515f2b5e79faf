"""Parquet files are read without threads, and what they lack is told."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from pipelines.atomic import DamagedFile
from pipelines.store_files.parquet import parsing, read_table
from tests import tiny

THREADS = """
import os, sys
import pyarrow.parquet
from pipelines.store import StoreReader
count = lambda: len(os.listdir("/proc/self/task"))
before = count()
rows = list(StoreReader(sys.argv[1]).rows())
print(len(rows), count() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_store_is_read_without_threads(tmp_path: Path) -> None:
    """Under a limit of memory or of processes, Arrow would wait for one that cannot be started."""
    tiny.store(tmp_path / "store", [tiny.row(number) for number in range(3)])
    command = [sys.executable, "-c", THREADS, str(tmp_path / "store")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "3 0\n"


def test_a_column_that_is_not_there_is_told(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"id": ["a"]}), path)
    assert read_table(path.read_bytes(), ["id"]).to_pylist() == [{"id": "a"}]
    with pytest.raises(DamagedFile, match=r"parquet: damaged: it lacks the columns key"), parsing(path):
        read_table(path, ["id", "key"])

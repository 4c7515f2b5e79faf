"""What a Parquet file lacks is told, and what the machine lacks is no damage of a file."""

from __future__ import annotations

from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from pipelines.atomic import DamagedFile
from pipelines.running.machine_faults import machine_fault
from pipelines.store_files.parquet import parsing, read_table


def test_a_column_that_is_not_there_is_told(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"id": ["a"]}), path)
    assert read_table(path.read_bytes(), ["id"]).to_pylist() == [{"id": "a"}]
    with pytest.raises(DamagedFile, match=r"parquet: damaged: it lacks the columns key"), parsing(path):
        read_table(path, ["id", "key"])


def test_a_thread_that_cannot_be_started_is_no_damage(tmp_path: Path) -> None:
    told = "Unknown error: Failed to launch worker thread: Resource temporarily unavailable"
    with pytest.raises(pyarrow.ArrowException) as raised, parsing(tmp_path / "table.parquet"):
        raise pyarrow.ArrowException(told)
    assert "more processes" in str(machine_fault(raised.value))

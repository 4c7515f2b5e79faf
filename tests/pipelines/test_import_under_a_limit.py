"""Under a limit of memory or handles, an import does all rows or ends with one line; it rejects none."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines import media
from pipelines.corpora.places import (
    BASE_BYTES,
    BASE_HANDLES,
    THREAD_BYTES,
    THREAD_HANDLES,
    check_machine,
)
from pipelines.importing import batch_size
from pipelines.running.machine_faults import MachineFault
from tests import processes
from tests.pipelines.clips import numbered, tone

CLIPS = 3
HANDLES = BASE_HANDLES + batch_size() * THREAD_HANDLES + 16


def imported(table: Path, out: Path, **limits: int) -> subprocess.CompletedProcess[str]:
    """Import in a process that may have so much of a resource, such as `AS`, bytes of memory."""

    def limited() -> None:
        import resource

        for name, limit in limits.items():
            number = getattr(resource, f"RLIMIT_{name}")
            resource.setrlimit(number, (limit, resource.getrlimit(number)[1]))

    command = [sys.executable, "-m", "pipelines", "import", "folder", str(table), "--out", str(out)]
    return subprocess.run(
        command,
        cwd=processes.ROOT,
        preexec_fn=limited,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.fixture
def table(tmp_path: Path) -> Path:
    table = tmp_path / "label.csv"
    with table.open("w", newline="") as file:
        csv.writer(file).writerows(
            [["path", "text", "label", "split", "group"]]
            + [[f"{number}.mkv", "hi", 0, "train", number] for number in range(CLIPS)]
        )
    for number in range(CLIPS):
        (tmp_path / f"{number}.mkv").write_bytes(media.mux(numbered(5 + number), 10, tone(0.5)))
    return table


def assert_all_or_one_line(table: Path, told: str, **limits: int) -> bool:
    """Whether an import under limits did all rows; otherwise it has told, and the same command does them."""
    out = table.parent / "store"
    ended = imported(table, out, **limits)
    enough = ended.returncode == 0
    if not enough:
        assert ended.returncode == 1, ended.stderr
        (line,) = ended.stderr.splitlines()
        assert line.startswith("error: ")
        assert told in line
        ended = imported(table, out)
    assert ended.returncode == 0, ended.stderr
    assert f"{CLIPS} rows read, {CLIPS} done, 0 rejected" in ended.stdout
    assert json.loads((out / "status.json").read_text())["done"] == CLIPS
    assert (out / "failures.jsonl").read_text() == ""
    return enough


@pytest.mark.skipif(sys.platform != "linux", reason="needs RLIMIT_AS")
@pytest.mark.parametrize("share", [0.6, 1.05, 1.3, 2.5])
def test_no_row_is_rejected_for_want_of_memory(table: Path, share: float) -> None:
    needed = BASE_BYTES + batch_size() * THREAD_BYTES
    assert assert_all_or_one_line(table, "memory", AS=int(share * needed)) or share < 2


@pytest.mark.parametrize("handles", [6, 10, 14, 17, 30, HANDLES])
def test_no_row_is_rejected_for_want_of_handles(table: Path, handles: int) -> None:
    assert assert_all_or_one_line(table, "open files", NOFILE=handles) == (handles == HANDLES)


def test_memory_that_no_machine_has_is_told() -> None:
    check_machine(2)
    with pytest.raises(MachineFault, match=r"import: takes \d+ MiB of memory, which this process cannot get"):
        check_machine(2**27)

"""Under whatever limit of memory, an import does all rows or ends with one line; it rejects none for that."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines import media
from pipelines.corpora.places import BASE_BYTES, THREAD_BYTES, check_memory
from pipelines.importing import batch_size
from pipelines.running.machine_faults import MachineFault
from tests import processes
from tests.pipelines.clips import numbered, tone

CLIPS = 3


def imported(table: Path, out: Path, limit: int | None) -> subprocess.CompletedProcess[str]:
    """Import in a process that may take so many bytes of memory."""

    def limited() -> None:
        import resource

        if limit is not None:
            resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))

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


@pytest.mark.skipif(sys.platform != "linux", reason="needs RLIMIT_AS")
@pytest.mark.parametrize("share", [0.6, 1.05, 1.3, 2.5])
def test_no_row_is_rejected_for_want_of_memory(tmp_path: Path, share: float) -> None:
    table, out = tmp_path / "label.csv", tmp_path / "store"
    with table.open("w", newline="") as file:
        csv.writer(file).writerows(
            [["path", "text", "label", "split", "group"]]
            + [[f"{number}.mkv", "hi", 0, "train", number] for number in range(CLIPS)]
        )
    for number in range(CLIPS):
        (tmp_path / f"{number}.mkv").write_bytes(media.mux(numbered(5 + number), 10, tone(0.5)))
    needed = BASE_BYTES + batch_size() * THREAD_BYTES
    ended = imported(table, out, int(share * needed))
    if ended.returncode:
        assert ended.returncode == 1, ended.stderr
        assert share < 2
        (line,) = ended.stderr.splitlines()
        assert line.startswith("error: ")
        assert "memory" in line
        ended = imported(table, out, None)
    assert ended.returncode == 0, ended.stderr
    assert f"{CLIPS} rows read, {CLIPS} done, 0 rejected" in ended.stdout
    assert json.loads((out / "status.json").read_text())["done"] == CLIPS
    assert (out / "failures.jsonl").read_text() == ""


def test_memory_that_no_machine_has_is_told() -> None:
    check_memory(2)
    with pytest.raises(MachineFault, match=r"import: takes \d+ MiB of memory, which this process cannot get"):
        check_memory(2**27)

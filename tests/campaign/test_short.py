"""A sample of the campaign, by its command: kills, lost power, damage, a full disk, hostile files."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.campaign.findings import Finding, Trial
from tests.campaign.interception import Change, compiler
from tests.campaign.power_loss import SPOILT, Disk, disks
from tests.campaign.programs import ROOT
from tests.campaign.table import BEGIN, END, markdown, write

needs_compiler = pytest.mark.skipif(
    compiler() is None or not sys.platform.startswith("linux"), reason="needs Linux and a C compiler"
)


@needs_compiler
@pytest.mark.slow
def test_kills_lose_nothing_and_a_full_disk_ends_in_one_line(tmp_path: Path) -> None:
    only = ["--only", "kill", "machine", "augment"]
    command = [sys.executable, "-m", "tests.campaign", "--out", str(tmp_path), "--short", *only]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    trials = json.loads((tmp_path / "campaign.json").read_text())
    assert {trial["kind"] for trial in trials} == {"kill", "machine"}
    assert not [trial for trial in trials if trial["findings"]], ran.stdout


def test_a_disk_keeps_what_was_synced(tmp_path: Path) -> None:
    """A marker is written and synced before what it vouches for, whose folder never is."""
    folder = tmp_path / "folder"
    (folder / "data").mkdir(parents=True)
    disk = Disk.of(folder)
    (folder / "data" / "rows").write_bytes(b"12345678")
    (folder / "marker").write_bytes(b"done")
    rows, marker = (path.stat().st_ino for path in (folder / "data" / "rows", folder / "marker"))
    disk.replay(
        [
            Change("create", rows, 0, str(folder / "data" / "rows"), ""),
            Change("write", rows, 8, str(folder / "data" / "rows"), ""),
            Change("create", marker, 0, str(folder / "marker"), ""),
            Change("write", marker, 4, str(folder / "marker"), ""),
            Change("sync", marker, 4, str(folder / "marker"), ""),
        ]
    )
    (tmp_path / "saved").mkdir()
    held = {}
    for way, left in disks(disk, folder, tmp_path / "saved", tmp_path / "left"):
        files = [path for path in left.rglob("*") if path.is_file()]
        held[way] = {path.relative_to(left).as_posix(): path.read_bytes() for path in files}
    assert held["cut"] == {"data/rows": b"1234", "marker": b"done"}
    assert held["zeros"] == {"data/rows": bytes(8), "marker": b"done"}
    assert held["undone"] == {}
    assert held["undone in /data"] == {"marker": b"done"}
    assert held["undone in ."] == {"data/rows": b""}
    assert set(SPOILT) < set(held)


def test_a_rename_is_undone_to_the_file_before(tmp_path: Path) -> None:
    folder, saved = tmp_path / "folder", tmp_path / "saved"
    folder.mkdir()
    saved.mkdir()
    (folder / "card").write_bytes(b"old")
    old = (folder / "card").stat().st_ino
    disk = Disk.of(folder)
    (saved / str(old)).hardlink_to(folder / "card")
    (folder / "new").write_bytes(b"new")
    new = (folder / "new").stat().st_ino
    (folder / "new").replace(folder / "card")
    disk.replay(
        [
            Change("create", new, 0, str(folder / "new"), ""),
            Change("sync", new, 3, str(folder / "new"), ""),
            Change("rename", new, 3, str(folder / "new"), str(folder / "card")),
        ]
    )
    held = {way: (left / "card").read_bytes() for way, left in disks(disk, folder, saved, tmp_path / "left")}
    assert held == {"empty": b"new", "cut": b"new", "zeros": b"new", "undone": b"old"}


def test_the_table_counts_trials_by_their_faults(tmp_path: Path) -> None:
    twice = (Finding("lost", "a"), Finding("lost", "b"), Finding("rubbish", "c"))
    trials = [Trial("kill", "score, fresh", "x", twice), Trial("kill", "score, finished", "y")]
    assert "| kill | score | 2 | 1 | 0 | 0 | 0 | 1 | 0 |" in markdown(trials)
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    write(tmp_path, trials, page)
    assert page.read_text() == f"before\n{BEGIN}\n{markdown(trials)}\n{END}\nafter\n"

"""Files that are there whole or not at all."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from pipelines.atomic import replacing, sweep, write_json, write_json_lines, write_text


def test_a_file_is_replaced_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "made" / "file.txt"
    write_text(path, "old")
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert [file.name for file in path.parent.iterdir()] == ["file.txt"]


def test_what_a_killed_process_left_of_a_file_is_removed(tmp_path: Path) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    path, host = tmp_path / "a[1].txt", platform.node()
    left = tmp_path / f".{path.name}.{dead.pid}@{host}.tmp"
    kept = [tmp_path / f".{path.name}.{os.getppid()}@{host}.tmp", tmp_path / f".b.txt.{dead.pid}@{host}.tmp"]
    for each in (left, *kept):
        each.touch()
    write_text(path, "new")
    assert {*tmp_path.iterdir()} == {path, *kept}


def test_what_a_library_has_named_is_removed_once_it_is_old(tmp_path: Path) -> None:
    old, new = tmp_path / ".tmpAbC012", tmp_path / ".tmpXyZ345"
    for each in (old, new):
        each.touch()
    os.utime(old, (0, 0))
    sweep(tmp_path)
    assert [*tmp_path.iterdir()] == [new]
    sweep(tmp_path, alone=True)
    assert [*tmp_path.iterdir()] == []


def test_a_block_that_raises_leaves_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    write_text(path, "old")

    def fail() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_who_may_read_other_files_may_read_a_safetensors_file(tmp_path: Path) -> None:
    """In a folder that several users share; safetensors alone would write for its owner."""
    plain, made = tmp_path / "plain", tmp_path / "made.safetensors"
    plain.touch()
    with replacing(made) as temporary:
        save_file({"a": np.zeros(2)}, temporary)
    assert made.stat().st_mode == plain.stat().st_mode


def test_json_is_strict_whatever_the_numbers(tmp_path: Path) -> None:
    """Python's own writer puts NaN and Infinity there, which no other reader takes."""
    value = {"loss": float("nan"), "norms": [1.0, float("inf")], "best": (-float("inf"), 2), "name": "é"}
    write_json(tmp_path / "one.json", value)
    write_json_lines(tmp_path / "lines.jsonl", [value])
    for path in (tmp_path / "one.json", tmp_path / "lines.jsonl"):
        found = json.loads(path.read_text(encoding="utf-8"), parse_constant=pytest.fail)
        assert found == {"loss": None, "norms": [1.0, None], "best": [None, 2], "name": "é"}


def test_a_file_and_new_folders_are_on_disk_when_the_writer_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = []
    sync, rename = os.fsync, os.replace

    def note_sync(descriptor: int) -> None:
        sync(descriptor)
        events.append(("sync", Path(f"/proc/self/fd/{descriptor}").readlink()))

    def note_rename(source: Path, target: Path) -> None:
        rename(source, target)
        events.append(("rename", Path(target)))

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(os, "replace", note_rename)
    path = tmp_path / "a" / "b" / "file.txt"
    write_text(path, "x")
    synced = [each for event, each in events if event == "sync"]
    assert events[-3:] == [("sync", synced[-2]), ("rename", path), ("sync", path.parent)]
    assert (synced[-2].parent, synced[-2].suffix) == (path.parent, ".tmp")
    assert {tmp_path, tmp_path / "a"} <= {*synced[:-2]}

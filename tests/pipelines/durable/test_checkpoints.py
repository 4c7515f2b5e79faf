"""A checkpoint is on the disk before its marker, and taken up only if every file is as it was written."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from pipelines.atomic import DamagedFile
from pipelines.durable import checkpoints
from pipelines.durable.checkpoints import (
    MARKER,
    before,
    load_state,
    newest_whole,
    save_state,
    seal,
    whole,
    writing,
)
from pipelines.errors import RunError
from tests.damage import DAMAGES, files_limited_to

STATE = {"weights": torch.arange(1000.0), "epoch": 3}


def made(folder: Path, number: int) -> Path:
    checkpoint = folder / f"checkpoint-{number}"
    (checkpoint / "inner").mkdir(parents=True)
    (checkpoint / "a.bin").write_bytes(b"content" * number)
    (checkpoint / "inner" / "b.bin").write_bytes(b"more" * number)
    seal(checkpoint, step=number)
    return checkpoint


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["a.bin", "inner/b.bin", MARKER])
def test_a_broken_checkpoint_is_passed_over_for_the_one_before_it(
    tmp_path: Path, name: str, damage: str
) -> None:
    older, newer = made(tmp_path, 9), made(tmp_path, 10)
    assert newest_whole(tmp_path, "checkpoint-*") == (newer, {})
    DAMAGES[damage](newer / name)
    found, broken = newest_whole(tmp_path, "checkpoint-*")
    assert found == older
    assert str(newer / name) in broken[newer]
    DAMAGES[damage](older / name)
    assert newest_whole(tmp_path, "checkpoint-*")[0] is None


def test_a_changed_byte_is_found(tmp_path: Path) -> None:
    path = made(tmp_path, 3) / "a.bin"
    path.write_bytes(path.read_bytes().replace(b"t", b"T", 1))
    with pytest.raises(DamagedFile, match=r"a\.bin has other content than was written"):
        whole(path.parent)


def test_a_bit_of_a_marker_that_changed_is_found(tmp_path: Path) -> None:
    checkpoint = made(tmp_path, 9)
    marker = (checkpoint / MARKER).read_bytes()
    (checkpoint / MARKER).write_bytes(marker.replace(b'"step": 9', b'"step": 8'))
    with pytest.raises(DamagedFile, match="sha256"):
        whole(checkpoint)


def test_a_file_that_cannot_be_read_is_not_taken_for_a_broken_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault of the disk now does not make an older checkpoint the right one."""
    checkpoint = made(tmp_path, 3)

    def fails(*_: Any) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(checkpoints.hashlib, "file_digest", fails)
    with pytest.raises(OSError, match="Input/output"):
        newest_whole(tmp_path, "checkpoint-*")
    assert checkpoint.exists()


def test_all_reaches_the_disk_before_the_marker_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[str, bool]] = []
    fsync = os.fsync
    checkpoint = tmp_path / "checkpoint-1"

    def noting(handle: int) -> None:
        path = Path(f"/proc/self/fd/{handle}").readlink()
        synced.append((str(path), (checkpoint / MARKER).exists()))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", noting)
    made(tmp_path, 1)
    early = {path for path, marked in synced if not marked}
    for path in (checkpoint / "a.bin", checkpoint / "inner" / "b.bin", checkpoint / "inner", checkpoint):
        assert str(path) in early
    assert [path for path, marked in synced if marked] == [str(checkpoint), str(tmp_path)]


def test_files_get_the_permissions_that_new_files_have(tmp_path: Path) -> None:
    mask = os.umask(0o027)
    try:
        save_file({"a": torch.zeros(3)}, tmp_path / "a.safetensors")
        seal(tmp_path)
    finally:
        os.umask(mask)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o640}


def test_a_marker_of_an_earlier_version_vouches_by_being_there(tmp_path: Path) -> None:
    (tmp_path / MARKER).write_text('{"step": 3}')
    assert whole(tmp_path) == {"step": 3}


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_state_before_a_broken_one_is_loaded(
    tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "checkpoint.pt"
    assert load_state(path, "fusion") is None
    for epoch in (2, 3):
        save_state(path, STATE | {"epoch": epoch})
    assert load_state(path, "fusion")["epoch"] == 3
    assert capsys.readouterr().out == ""
    DAMAGES[damage](path)
    assert load_state(path, "fusion")["epoch"] == 2
    said = capsys.readouterr().out
    if damage != "missing":  # as it is between the two renames of a save
        assert said.count("\n") == 1
        assert said.startswith(f"fusion: {path} is broken (")
        assert said.endswith("; goes on from the state before it\n")
    DAMAGES[damage](before(path))
    assert load_state(path, "fusion") is None
    if damage != "missing":
        assert capsys.readouterr().out.endswith(", and no other state is left; begins anew\n")


def test_a_changed_byte_in_a_state_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "checkpoint.pt"
    save_state(path, STATE)
    content = bytearray(path.read_bytes())
    at = content.index(STATE["weights"].numpy().tobytes()[400:480])  # type: ignore[attr-defined]
    content[at] ^= 1
    path.write_bytes(content)
    assert load_state(path, "fusion") is None
    assert "has other content than was written" in capsys.readouterr().out


@pytest.mark.parametrize("write", [torch.save, save_file], ids=["torch", "safetensors"])
def test_a_write_that_fails_is_one_line(tmp_path: Path, write: Any) -> None:
    with (
        pytest.raises(RunError, match=r"^x: cannot be written \(.*\); the same command then goes on$"),
        files_limited_to(10_000),
        writing(Path("x")),
    ):
        write({"a": torch.zeros(100_000)}, tmp_path / "a")


def test_nothing_is_written_while_memory_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Libraries that write would abort the program."""
    monkeypatch.setattr(checkpoints, "memory_is_short", lambda: True)
    with (
        pytest.raises(RunError, match=r"^x: cannot be written \(.*free memory, or take a smaller batch"),
        writing(Path("x")),
    ):
        pytest.fail("it was begun")


def test_another_error_of_a_block_that_writes_stays_as_it_is() -> None:
    with pytest.raises(RuntimeError, match=r"^shapes$"), writing(Path("x")):
        raise RuntimeError("shapes")

"""A decoder that crashes or hangs costs the file that it reads and no other."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from pipelines import importing
from pipelines.decoding.isolation import Isolated
from pipelines.decoding.reencoding import reencode
from pipelines.media import MediaError, mux
from pipelines.store import StoreReader
from tests.pipelines.clips import numbered, tone


def behave(how: str) -> str:
    if how == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if how == "hang":
        time.sleep(60)
    if how == "fail":
        raise MediaError("clip: is broken")
    return f"{how} in {os.getpid()}"


def test_what_ends_a_process_ends_one_call() -> None:
    call = Isolated(behave, limit_s=20)
    first = call("a.mp4", "well")
    assert call("b.mp4", "well") == first
    with pytest.raises(MediaError, match="clip: is broken"):
        call("c.mp4", "fail")
    assert call("d.mp4", "well") == first
    with pytest.raises(MediaError, match=r"e\.mp4: its decoder crashed \(SIGSEGV\)"):
        call("e.mp4", "crash")
    assert call("f.mp4", "well") != first
    assert str(os.getpid()) not in first


def test_a_call_that_does_not_end_is_given_up() -> None:
    call = Isolated(behave, limit_s=10)
    first = call("a.mp4", "well")
    with pytest.raises(MediaError, match=r"b\.mp4: is still being read after 10 s"):
        call("b.mp4", "hang")
    assert call("c.mp4", "well") != first


def crashing(path: Path, **settings: Any) -> Any:
    """As `reencode`, but for one clip."""
    if path.name == "clip1.mkv":
        os.kill(os.getpid(), signal.SIGSEGV)
    return reencode(path, **settings)


def test_an_import_goes_on_after_a_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["path,text,label,split,group"]
    for number in range(4):
        (tmp_path / f"clip{number}.mkv").write_bytes(mux(numbered(10), 10, tone(1.0)))
        lines.append(f"clip{number}.mkv,hello,0,train,{number}")
    (tmp_path / "clips.csv").write_text("\n".join(lines))
    monkeypatch.setattr(importing, "reencode", crashing)
    out = tmp_path / "store"
    importing.main(
        ["--corpus.name", "folder", "--corpus.path", str(tmp_path / "clips.csv"), "--out", str(out)]
    )
    assert len(StoreReader(out)) == 3
    failures = [json.loads(line) for line in (out / "failures.jsonl").read_text().splitlines()]
    assert [(each["id"], each["error"]) for each in failures] == [("folder/clip1", "MediaError")]
    assert "clip1.mkv: its decoder crashed (SIGSEGV)" in failures[0]["message"]

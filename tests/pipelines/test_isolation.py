"""A decoder that crashes or hangs costs the file that it reads and no other."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pipelines import importing
from pipelines.decoding import isolation
from pipelines.decoding.isolation import Isolated
from pipelines.decoding.reencoding import reencode
from pipelines.media import MediaError, mux
from pipelines.running.machine_faults import MachineFault
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


def at_the_limit(room_mib: int) -> None:
    """Fails as a decoder that has given back what it held, with this much left below the limit of memory."""
    import resource

    status = Path("/proc/self/status").read_text().partition("VmPeak:")[2]
    limit = 1024 * int(status.split()[0]) + room_mib * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    raise MediaError("a.mp4: Generic error in an external library")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the peak")
def test_an_error_at_the_limit_of_memory_is_the_machines() -> None:
    with pytest.raises(MachineFault, match=r"a\.mp4: Generic error .*, while memory is short; raise"):
        Isolated(at_the_limit, limit_s=20)("a.mp4", 100)
    with pytest.raises(MediaError, match=r"a\.mp4: Generic error"):
        Isolated(at_the_limit, limit_s=20)("a.mp4", 1000)


@pytest.mark.parametrize(
    ("how", "told"), [("crash", r"its decoder crashed \(SIGSEGV\)"), ("hang", "is still being")]
)
def test_an_end_under_a_low_limit_of_memory_is_the_machines(
    monkeypatch: pytest.MonkeyPatch, how: str, told: str
) -> None:
    call = Isolated(behave, limit_s=2 if how == "hang" else 20)
    monkeypatch.setattr(isolation, "_memory_limit", lambda: 2**30)
    with pytest.raises(MachineFault, match=rf"a\.mp4: {told}.*its limit is 1024 MiB; raise it"):
        call("a.mp4", how)
    monkeypatch.setattr(isolation, "_memory_limit", lambda: 2**33)
    with pytest.raises(MediaError, match=rf"a\.mp4: {told}"):
        call("a.mp4", how)


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

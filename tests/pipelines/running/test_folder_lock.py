"""One run a folder: a second one is refused by name, a dead one's lock is taken over."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipelines.__main__ import main
from pipelines.running import folder_lock
from pipelines.running.folder_lock import FolderBusy, FolderLock, holder

ROOT = Path(__file__).resolve().parents[3]
HOLD = """
import sys, time
from pathlib import Path
from pipelines.running.folder_lock import FolderLock
with FolderLock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


KILLED_WHILE_IT_WRITES = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from safetensors.numpy import save_file
from pipelines.atomic import replacing
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
with replacing(Path(sys.argv[1])) as temporary:
    save_file({"a": np.zeros(10_000)}, temporary)
"""


@contextmanager
def held_by_another(folder: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", HOLD, str(folder)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_run_is_refused_by_name(tmp_path: Path) -> None:
    with held_by_another(tmp_path) as other:
        found = holder(tmp_path)
        assert found is not None
        assert (found.host, found.pid) == (socket.gethostname(), other.pid)
        with pytest.raises(FolderBusy, match=f"{tmp_path}: another run works there .process {other.pid} on "):
            FolderLock(tmp_path).__enter__()
        other.terminate()
        other.wait()
    with FolderLock(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_the_lock_of_a_killed_run_is_taken_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with held_by_another(tmp_path) as other:
        other.send_signal(signal.SIGKILL)
        other.wait()
    assert holder(tmp_path) is None
    with caplog.at_level(logging.WARNING), FolderLock(tmp_path):
        pass
    assert f"taken over from process {other.pid} on {socket.gethostname()}" in caplog.text


@pytest.mark.parametrize("inner", [".", "towers"])
def test_what_libraries_of_a_killed_run_left_is_removed(inner: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED_WHILE_IT_WRITES, str(tmp_path / inner / "a.safetensors")]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == -signal.SIGXFSZ
    assert list((tmp_path / inner).iterdir())
    with FolderLock(tmp_path):
        pass
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"host": 1}'], ids=["empty", "cut", "list", "keys"])
def test_a_lock_without_a_name_is_of_a_run_that_was_killed_at_once(content: str, tmp_path: Path) -> None:
    (tmp_path / folder_lock.NAME).write_text(content)
    with FolderLock(tmp_path):
        pass


def test_a_run_of_another_host_counts_as_long_as_it_renews_its_lock(tmp_path: Path) -> None:
    lock = tmp_path / folder_lock.NAME
    lock.write_text(json.dumps({"host": "elsewhere", "pid": 7, "since": "2026-01-01T00:00:00+00:00"}))
    assert str(holder(tmp_path)).startswith("process 7 on elsewhere")
    with pytest.raises(FolderBusy, match="process 7 on elsewhere"):
        FolderLock(tmp_path).__enter__()
    assert lock.exists()
    long_ago = time.time() - 2 * folder_lock.SILENT_S
    os.utime(lock, (long_ago, long_ago))
    with FolderLock(tmp_path):
        pass


def test_a_living_run_renews_its_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_lock, "RENEW_S", 0.01)
    with FolderLock(tmp_path) as held:
        os.utime(held.path, (0, 0))
        deadline = time.monotonic() + 10
        while held.path.stat().st_mtime == 0:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_only_the_first_of_several_processes_takes_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with held_by_another(tmp_path), FolderLock(tmp_path):
        pass


def test_a_stage_is_refused_and_status_tells_the_truth(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "clips.csv").write_text("path,text,label,split,group\n,hello,0,train,a\n")
    out = tmp_path / "store"
    command = ["import", "folder", str(tmp_path / "clips.csv"), "--out", str(out)]
    main(command)
    status = json.loads((out / "status.json").read_text())
    (out / "status.json").write_text(json.dumps(status | {"state": "running"}))
    with held_by_another(out):
        with pytest.raises(FolderBusy):
            main(command)
        main(["status", str(out)])
    assert " running " in capsys.readouterr().out
    main(["status", str(out)])
    assert " killed " in capsys.readouterr().out

"""The benchmark of checksums counts them, and takes nothing else for one."""

from __future__ import annotations

import hashlib
import io
import json
import time
from pathlib import Path

import pytest

from benchmarks import verification
from benchmarks.verification import checksums_timed, main


def test_the_share_of_an_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(verification, "STAGES", {"import": verification.STAGES["import"]})
    main(["--out", str(tmp_path), "--clips", "8", "--runs", "1"])
    (run,) = json.loads((tmp_path / "benchmark.json").read_text())["runs"]["import"]
    assert 0 < run["checking"] < run["seconds"]
    assert "| import |" in capsys.readouterr().out
    assert (tmp_path / "originals" / "README.md").is_file()


def test_only_digests_are_timed() -> None:
    spent = [0.0]
    plain = hashlib.sha256
    with checksums_timed(spent):
        time.sleep(0.05)
        assert spent[0] == 0
        content = bytes(2**24)
        assert hashlib.sha256(content).digest() == hashlib.file_digest(io.BytesIO(content), "sha256").digest()
    assert spent[0] > 0
    assert hashlib.sha256 is plain

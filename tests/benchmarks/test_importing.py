"""The import's benchmark measures both checkouts."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks.importing import main
from pipelines.errors import UsageError

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_both_checkouts_import_the_same_frames(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["--baseline", str(ROOT), "--out", str(tmp_path), "--clips", "8", "--runs", "1"])
    runs = json.loads((tmp_path / "benchmark.json").read_text())["runs"]
    (baseline,), (here,) = runs["baseline"], runs["here"]
    assert baseline["frames"] == here["frames"] > 100
    assert 0.3 < baseline["peak_bytes"] / here["peak_bytes"] < 3
    assert "| baseline |" in capsys.readouterr().out


def test_a_baseline_is_a_checkout(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--baseline: .* is no checkout"):
        main(["--baseline", str(tmp_path), "--out", str(tmp_path)])

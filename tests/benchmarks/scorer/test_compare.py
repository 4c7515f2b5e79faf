"""Two scorings of one store: what changed by kind, and the variants whose whole is better than its parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.scorer.compare import excess, main, report, same_variants
from pipelines.errors import RunError
from pipelines.row import QUALITIES
from tests.score.clips import original, variant, write_store

BOTH = {"quality_video": 0.4, "quality_audio": 0.9, "quality_cross": 1.0}


def scored(folder: Path, qualities: list[float], **columns: Any) -> Path:
    """A store of a clip's variants of both tracks, of these qualities, which are their weights too."""
    source = original(1) | dict.fromkeys(QUALITIES) | {"weight": 1.0}
    rows = [
        variant(source, "both", number)
        | BOTH
        | {"quality": quality, "weight": quality, "generator": '{"method": "sdedit"}'}
        | columns
        for number, quality in enumerate(qualities)
    ]
    return write_store(folder, [source, *rows])


def test_the_report_has_both_stores_side_by_side(tmp_path: Path) -> None:
    before = scored(tmp_path / "before", [0.1, 0.5, 0.7])
    after = scored(tmp_path / "after", [0.3, 0.2, 0.1])
    lines = report(same_variants(before, after)).splitlines()
    assert lines[2] == "| both | sdedit | 3 | 0.50 · 0.20 | 0.43 · 0.20 | 0.33 · 0.33 | -1.00 |"
    assert lines[-1].endswith("by at most 0.30 and -0.10.")


def test_variants_of_an_unknown_method_are_named_by_their_kind(tmp_path: Path) -> None:
    store = scored(tmp_path / "store", [0.2, 0.3], generator='{"made": "elsewhere"}')
    assert report(same_variants(store, store)).splitlines()[2].startswith("| both | both | 2 | ")


def test_help_keeps_the_lines_of_the_docstring(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "\n    python -m benchmarks.scorer.compare BEFORE AFTER\n\n" in capsys.readouterr().out


def test_variants_of_one_track_have_no_worse_half(tmp_path: Path) -> None:
    store = scored(tmp_path / "store", [0.2], quality_audio=None)
    assert np.isnan(excess([row for row, _ in same_variants(store, store)]))


def test_stores_that_share_nothing_are_refused(tmp_path: Path) -> None:
    store = scored(tmp_path / "store", [0.2])
    other = write_store(tmp_path / "other", [original(2) | dict.fromkeys(QUALITIES) | {"weight": 1.0}])
    with pytest.raises(RunError, match="other: has no variants; name a scored store that has some"):
        same_variants(store, other)
    bare = scored(tmp_path / "bare", [0.2], quality=None)
    with pytest.raises(RunError, match="bare: none of its variants has a quality; score it first"):
        same_variants(store, bare)
    row = original(3) | dict.fromkeys(QUALITIES) | {"weight": 1.0}
    made = variant(row, "both", 0) | BOTH | {"quality": 0.4, "weight": 0.4}
    with pytest.raises(RunError, match="share no variant"):
        same_variants(store, write_store(tmp_path / "third", [row, made]))

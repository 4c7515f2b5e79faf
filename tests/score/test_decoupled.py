"""The scorer knows nothing of the model that is trained, of valid and test, or of whom it judges."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipelines.media import encode_audio, encode_video, read_audio, read_video
from pipelines.row import Row
from pipelines.settings import parse_stage
from pipelines.store import StoreReader
from score.run import run
from score.settings import ScoreConfig
from tests.score.clips import FPS, original, restyled, variant, with_noise, write_store

TRAINED = ("finetune", "augment", "peft", "transformers.models.qwen2_5_omni")
IMPORT_ALL = """
import pkgutil, sys, score
for module in pkgutil.walk_packages(score.__path__, "score."):
    if not module.name.endswith("__main__"):
        __import__(module.name)
print([name for name in sys.modules if name.startswith({trained!r})])
"""


def test_no_module_of_the_scorer_imports_the_model_that_is_trained() -> None:
    code = IMPORT_ALL.format(trained=TRAINED)
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    """Eighteen originals of six groups, and a variant of each track of the first two of each."""
    made: list[Row] = []
    for seed in range(18):
        row = original(seed)
        made.append(row)
        if seed < 12:
            frames, samples = read_video(row["video"]["bytes"]).frames, read_audio(row["audio"]["bytes"])
            made.append(variant(row, "video", 0, video=encode_video(restyled(frames), FPS)))
            made.append(variant(row, "audio", 1, audio=encode_audio(with_noise(samples, 5))))
    return made


def scored(rows: list[Row], folder: Path) -> dict[str, Row]:
    data = write_store(folder / "in", rows)
    argv = ["--data", str(data), "--out", str(folder / "out"), "--score.calibration_clips", "0"]
    run(parse_stage(ScoreConfig, "score", argv, prog="score"))
    return {row["id"]: row for row in StoreReader(folder / "out").rows() if row["kind"] != "original"}


def agreements(found: dict[str, Row], track: str) -> np.ndarray:
    rows = (row for row in found.values() if row["kind"] == track)
    return np.array([row[f"score_{track}_agreement"] for row in rows], dtype=float)


def test_whoever_is_judged_was_unknown_to_the_predictor(rows: list[Row], tmp_path: Path) -> None:
    """Turning the labels of a group over turns nothing that is said of its variants.

    Agreements are told in spreads of the predictions over all originals, so all of the group's may
    grow or shrink by one factor; those of other groups do not by that.
    """
    group = rows[0]["group"]
    turned = [row | {"label": -row["label"]} if row["group"] == group else row for row in rows]
    before, after = scored(rows, tmp_path / "before"), scored(turned, tmp_path / "after")
    for track in ("video", "audio"):
        mine = np.array([row["group"] == group for row in before.values() if row["kind"] == track])
        ratio = agreements(after, track) / agreements(before, track)
        assert mine.sum() == 2
        assert ratio[mine] == pytest.approx(ratio[mine][0], rel=1e-4)
        assert np.abs(ratio[~mine] / ratio[mine][0] - 1).max() > 1e-3


def test_rows_of_valid_and_test_change_nothing(rows: list[Row], tmp_path: Path) -> None:
    others = [original(100 + n, split=split) for n in range(3) for split in ("valid", "test")]
    assert scored([*rows, *others], tmp_path / "more") == scored(rows, tmp_path / "few")

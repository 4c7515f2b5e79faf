"""What a multimodal model holds of the labels becomes a signal."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from pipelines.errors import UsageError
from pipelines.media import encode_audio, read_audio
from pipelines.row import Row
from pipelines.settings import parse_stage
from pipelines.store import StoreReader
from score.label_probability import LEAST, read
from score.run import reweigh, run
from score.settings import ScoreConfig
from tests.score.clips import original, variant, with_noise, write_store


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    """Two originals, one with three variants of one sound."""
    own = original(0)
    sound = encode_audio(with_noise(read_audio(own["audio"]["bytes"]), 20))
    return [own, *(variant(own, "audio", number, audio=sound) for number in range(3)), original(1)]


def written(path: Path, values: dict[str, float | None]) -> Path:
    table = {"id": list(values), "log_probability": pyarrow.array(values.values(), pyarrow.float64())}
    pyarrow.parquet.write_table(pyarrow.table(table), path)
    return path


def scored(rows: list[Row], folder: Path, *settings: str) -> list[Row]:
    argv = ["--data", str(write_store(folder / "in", rows)), "--out", str(folder / "out"), *settings]
    run(parse_stage(ScoreConfig, "score", [*argv, "--score.calibration_clips", "0"], prog="score"))
    return [row for row in StoreReader(folder / "out").rows() if row["kind"] != "original"]


def test_a_label_that_became_less_probable_lowers_the_quality(rows: list[Row], tmp_path: Path) -> None:
    own, *ids = (row["id"] for row in rows[:4])
    file = written(tmp_path / "labels.parquet", dict(zip((own, *ids), (-0.5, -0.2, -1.5, -4.0), strict=True)))
    found = scored(rows, tmp_path, f"--score.label_probability={file}")
    assert [row["score_cross_label"] for row in found] == pytest.approx([0, -1, -3.5])
    qualities = [row["quality_cross"] for row in found]
    assert qualities == sorted(qualities, reverse=True)
    assert qualities[0] > qualities[1] > qualities[2]
    argv = ["--out", str(tmp_path / "out"), "--score.gamma", "2"]
    reweigh(parse_stage(ScoreConfig, "score", argv, prog="score", needs=("out",)))
    again = [row for row in StoreReader(tmp_path / "out").rows() if row["kind"] != "original"]
    assert [row["quality"] for row in again] == [row["quality"] for row in found]


def test_without_a_file_nothing_is_said(rows: list[Row], tmp_path: Path) -> None:
    found = scored(rows, tmp_path)
    assert [row["score_cross_label"] for row in found] == [None] * 3
    calibration = json.loads((tmp_path / "out" / "calibration.json").read_text())
    assert "cross_label" not in calibration["signals"] | calibration["left_out"]


def test_rows_that_the_file_lacks_are_counted(
    rows: list[Row], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = written(tmp_path / "labels.parquet", {rows[0]["id"]: -1.0, rows[1]["id"]: -2.0})
    with caplog.at_level(logging.WARNING):
        found = scored(rows, tmp_path, f"--score.label_probability={file}")
    assert [row["score_cross_label"] for row in found] == [-1.0, None, None]
    assert "2 of 3 variants" in caplog.text
    strangers = written(tmp_path / "strangers.parquet", {"somebody": -1.0})
    scored(rows, tmp_path / "other", f"--score.label_probability={strangers}")
    left_out = json.loads((tmp_path / "other" / "out" / "calibration.json").read_text())["left_out"]
    assert "knows no variant" in left_out["cross_label"]


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (None, "cannot be read"),
        ({"one": 0.5}, "one has 0.5; takes a logarithm"),
        ({"one": None}, "one has None"),
    ],
)
def test_a_wrong_file_is_refused_before_anything_is_measured(
    values: dict[str, float | None] | None, reason: str, rows: list[Row], tmp_path: Path
) -> None:
    file = tmp_path / "labels.parquet"
    if values is not None:
        written(file, values)
    with pytest.raises(UsageError, match=rf"score\.label_probability: .*{reason}"):
        scored(rows, tmp_path, f"--score.label_probability={file}")
    assert not (tmp_path / "out").exists()


def test_a_label_of_probability_0_is_worse_than_any_other(rows: list[Row], tmp_path: Path) -> None:
    own, *ids = (row["id"] for row in rows[:4])
    file = written(
        tmp_path / "labels.parquet", dict(zip((own, *ids), (-1.0, -1.0, -60.0, -math.inf), strict=True))
    )
    found = scored(rows, tmp_path, f"--score.label_probability={file}", "--score.signals=[cross_label]")
    assert [row["score_cross_label"] for row in found] == [0, -59, LEAST]
    assert found[0]["quality"] > found[1]["quality"] == found[2]["quality"] > 0  # both ruin a variant


@pytest.mark.parametrize(
    ("ids", "values", "message"),
    [
        (["a", "b"], ["x", "y"], r"cannot be read \(.*; give a Parquet file"),
        (["a", "a"], [-1.0, -2.0], "a is there twice"),
    ],
)
def test_a_file_of_another_kind_is_refused(
    ids: list[str], values: list[Any], message: str, tmp_path: Path
) -> None:
    file = tmp_path / "labels.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"id": ids, "log_probability": values}), file)
    with pytest.raises(UsageError, match=f"^score.label_probability: {file}.* {message}"):
        read(file)

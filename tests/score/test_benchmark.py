"""The benchmark: each means does what it says, and a small run's counts and figures add up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines import pitch
from pipelines.errors import UsageError
from score.benchmark import area, import_puppets, main, markdown, run, tau, variants
from score.spoiling import MEANS, Means, flattened, in_noise, late, overdriven, raised
from tests.score.clips import face, original, voice, write_store

FEW = {
    name: MEANS[name]
    for name in (
        "encoded again", "colours changed", "noise", "sound encoded again", "pitch moved", "band loss",
    )
}  # fmt: skip
STEADY = (
    "colours changed", "noise", "blur", "block artefacts", "shuffled frames", "frozen", "noise in the sound",
    "clipping", "band loss", "dropped speech",
)  # fmt: skip
"""The stronger the grade, the farther from the source, sample by sample."""


@pytest.fixture(scope="module")
def tracks() -> dict[str, np.ndarray]:
    mouth = np.random.default_rng(0).uniform(0, 1, 30)
    return {"video": face(0, mouth), "audio": voice(0)}


def changed(track: np.ndarray, way: Means, grade: float) -> np.ndarray:
    return way.change(track, grade, np.random.default_rng(0))


def distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a.astype(float) - b.astype(float)).mean())


@pytest.mark.parametrize("name", MEANS)
def test_the_strongest_grade_changes_the_clip_and_keeps_its_form(
    tracks: dict[str, np.ndarray], name: str
) -> None:
    way = MEANS[name]
    source, made = tracks[way.track], changed(tracks[way.track].copy(), way, way.grades[-1])
    assert (made.shape, made.dtype) == (source.shape, source.dtype)
    if way.track == "audio":
        assert np.abs(made).max() <= 1
    scale = 255 if way.track == "video" else float(np.abs(source).mean())
    assert distance(made, source) == 0 if "encoded again" in name else distance(made, source) > 0.01 * scale


@pytest.mark.parametrize("name", MEANS)
def test_no_grade_touches_what_it_is_given(tracks: dict[str, np.ndarray], name: str) -> None:
    way = MEANS[name]
    source = tracks[way.track].copy()
    changed(source, way, way.grades[len(way.grades) // 2])
    assert np.array_equal(source, tracks[way.track])


@pytest.mark.parametrize("name", STEADY)
def test_a_stronger_grade_is_farther_from_the_source(tracks: dict[str, np.ndarray], name: str) -> None:
    way = MEANS[name]
    distances = [distance(changed(tracks[way.track], way, grade), tracks[way.track]) for grade in way.grades]
    assert np.all(np.diff(distances) > 0), distances


def test_a_flattened_voice_keeps_its_height_and_loses_its_intonation_by_the_share() -> None:
    source = voice(1)
    before = np.log2(pitch.track(source))
    for share in (0.4, 1.0):
        after = np.log2(pitch.track(flattened(source, share, np.random.default_rng(0))))
        assert np.nanmedian(after) == pytest.approx(np.nanmedian(before), abs=0.1)
        assert np.nanstd(after) == pytest.approx((1 - share) * np.nanstd(before), abs=0.03)


def test_a_raised_voice_is_higher_by_the_factor_everywhere() -> None:
    source = voice(1)
    steps = np.log2(pitch.track(raised(source, 1.3, np.random.default_rng(0)))) - np.log2(pitch.track(source))
    assert np.nanmedian(steps) == pytest.approx(np.log2(1.3), abs=0.02)
    assert np.nanstd(steps) < 0.05


def test_noise_in_the_sound_has_the_ratio_it_is_given(tracks: dict[str, np.ndarray]) -> None:
    source = tracks["audio"]
    noise = in_noise(source, 10, np.random.default_rng(0)) - source
    assert 10 * np.log10((source**2).mean() / (noise**2).mean()) == pytest.approx(10, abs=0.1)


def test_sound_without_a_pitch_stays_as_it_is() -> None:
    silence = np.zeros(8000, dtype=np.float32)
    assert np.array_equal(raised(silence, 1.3, np.random.default_rng(0)), silence)


def test_a_late_picture_shows_each_frame_later_and_overdriven_sound_keeps_its_peak(
    tracks: dict[str, np.ndarray],
) -> None:
    rng = np.random.default_rng(0)
    made = late(tracks["video"], 3, rng)
    assert np.array_equal(made[3:], tracks["video"][:-3])
    assert np.array_equal(made[:3], tracks["video"][[0, 0, 0]])
    loud = np.abs(overdriven(tracks["audio"], 12, rng))
    assert loud.max() == pytest.approx(np.abs(tracks["audio"]).max())


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([[5, 4, 3, 2, 1]], 1.0),
        ([[1, 2, 3, 4, 5]], -1.0),
        ([[3, 3, 3]], 0.0),
        ([[1, 2, 3], [3, 2, 1]], 0.0),
        ([[3, 1, 2]], 1 / 3),  # two of three pairs fall, one rises
        ([[2, 2, 1]], 2 / 3),  # a tie is neither
        ([[3, 2, 1], [1, np.nan, 3]], 1.0),
        ([[np.nan, 2, 1]], None),
    ],
)
def test_tau_equals_its_closed_forms(values: list[list[float]], expected: float | None) -> None:
    found = tau(np.array(values, dtype=float))
    assert found is None if expected is None else found == pytest.approx(expected)


@pytest.mark.parametrize(
    ("better", "worse", "expected"),
    [
        ([2, 3], [0, 1], 1.0),
        ([0, 1], [2, 3], 0.0),
        ([1, 1], [1, 1, 1], 0.5),
        ([1, 3], [2], 0.5),
        ([1, 2, 3], [2], 0.5),
        ([2, 3], [2, 1], 3.5 / 4),
        ([2, np.nan], [1, np.nan], 1.0),
        ([np.nan], [1], None),
    ],
)
def test_area_equals_its_closed_forms(
    better: list[float], worse: list[float], expected: float | None
) -> None:
    found = area(np.array(better, dtype=float), np.array(worse, dtype=float))
    assert found is None if expected is None else found == pytest.approx(expected)


def test_a_clip_without_sound_gets_no_variants_of_it_and_draws_depend_on_the_id_alone() -> None:
    row = original(0) | {"audio": None}
    made = list(variants(row, FEW, seed=0))
    assert {variant["kind"] for variant in made} == {"video"}
    assert len(made) == sum(len(way.grades) for way in FEW.values() if way.track == "video")
    assert made == list(variants(row | {"split": "train"}, FEW, seed=0))
    for other in (variants(row, FEW, seed=1), variants(row | {"id": "another"}, FEW, seed=0)):
        assert made[-1]["video"] != list(other)[-1]["video"]


def test_a_small_run_writes_files_whose_counts_and_figures_add_up(tmp_path: Path) -> None:
    puppets = import_puppets(tmp_path / "originals", clips=8, seed=0)
    report = run(puppets, tmp_path, seed=0, means=FEW, command="the command")
    assert json.loads((tmp_path / "benchmark.json").read_text()) == report
    assert (tmp_path / "benchmark.md").read_text() == markdown(report)
    clips, told = 4, report["means"]
    assert (report["clips"], report["rejected"]) == (clips, 0)
    assert report["variants"] == clips * sum(len(way.grades) for way in FEW.values())
    assert list(told) == list(FEW)
    for name, way in FEW.items():
        assert [grade["grade"] for grade in told[name]["grades"]] == list(way.grades)
        assert {grade["rows"] for grade in told[name]["grades"]} == {clips}
    for name in ("noise", "band loss"):
        assert (told[name]["tau"], told[name]["area"]) == (pytest.approx(1, abs=0.1), 1)
        assert told[name]["grades"][-1]["quality"] < 0.3 < 0.9 < told[name]["grades"][0]["quality"]
    assert "tau" not in told["encoded again"]
    rows = [line for line in markdown(report).splitlines() if line.startswith("| ")][1:]
    assert [row.split(" | ")[0] for row in rows] == [f"| {name}" for name in FEW]


def test_rejected_variants_are_counted_and_null_in_no_median(tmp_path: Path) -> None:
    def cut(frames: np.ndarray, seconds: float, rng: np.random.Generator) -> np.ndarray:
        return frames[: len(frames) // 3] if seconds else frames

    means = FEW | {"cut": Means("video", cut, (0, 1, 1.5), "s")}
    store = write_store(tmp_path / "in", [original(seed) for seed in range(2)] + [original(9, split="test")])
    report = run(store, tmp_path, seed=0, means=means)
    assert (report["clips"], report["rejected"]) == (2, 4)
    cut_short: dict[str, Any] = report["means"]["cut"]
    assert [grade["rows"] for grade in cut_short["grades"]] == [2, 0, 0]
    assert [grade["quality"] for grade in cut_short["grades"]][1:] == [None, None]
    assert (cut_short["tau"], cut_short["area"]) == (None, None)


def test_a_clip_without_a_picture_counts_where_it_has_variants(tmp_path: Path) -> None:
    store = write_store(tmp_path / "in", [original(0), original(1) | {"video": None}])
    report = run(store, tmp_path, seed=0, means=FEW)
    rows = {name: {grade["rows"] for grade in told["grades"]} for name, told in report["means"].items()}
    assert rows == {name: {1 if way.track == "video" else 2} for name, way in FEW.items()}
    assert report["rejected"] == 0


def test_a_folder_that_is_not_empty_and_too_few_clips_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"clips: 4 is too few for three splits; take 8"):
        main(["--out", str(tmp_path / "new"), "--clips", "4"])
    (tmp_path / "there").touch()
    with pytest.raises(UsageError, match=r"--out: .* is not empty, .*; name another"):
        main(["--out", str(tmp_path)])

"""The pictures: the same values give the same bytes, and each says what it shows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.scorer.report import plot_benchmark
from score.calibrate import calibrate
from score.plots import plot_calibration, plot_weights

RNG = np.random.default_rng(0)
GOOD = {name: RNG.uniform(0.8, 1, 20).tolist() for name in ("video_motion", "audio_pitch")}
BAD = {name: RNG.uniform(-0.2, 0.3, 20).tolist() for name in GOOD}


def test_the_calibration_has_a_panel_for_each_signal_that_is_used(tmp_path: Path) -> None:
    calibration = calibrate(GOOD, BAD, {"video_structure": "no reason"})
    for name in ("one.svg", "two.svg"):
        plot_calibration(tmp_path / name, calibration, GOOD, BAD)
    drawn = (tmp_path / "one.svg").read_text()
    assert drawn == (tmp_path / "two.svg").read_text()
    for name in calibration.signals:
        suffix = "" if calibration.signals[name].basis == "corpus" else ", default anchors"
        assert f">{name}{suffix}<" in drawn
    assert "video_structure" not in drawn
    assert drawn.count("good pairs (20)") == len(GOOD)


def test_an_outlier_among_the_pairs_lies_at_the_edge(tmp_path: Path) -> None:
    far = {"video_motion": [*BAD["video_motion"], -1e9]}
    plot_calibration(tmp_path / "far.svg", calibrate(GOOD, far), GOOD, far)
    assert "1e9" not in (tmp_path / "far.svg").read_text()


@pytest.mark.parametrize("qualities", [[0.2, 0.9, np.nan], []])
def test_the_weights_are_drawn_by_kind_and_an_empty_store_is_no_error(
    tmp_path: Path, qualities: list[float]
) -> None:
    kinds = ["video", "audio", "audio"][: len(qualities)]
    summary = {"variants": len(qualities), "without_quality": 1, "effective_size": 1.6, "q_low": 0.2}
    weights = np.ones(len(qualities))
    plot_weights(tmp_path / "weights.svg", np.array(qualities), weights, kinds, summary)
    drawn = (tmp_path / "weights.svg").read_text()
    assert f"{len(qualities)} variants weigh as much as 2 equal ones; 1 without a quality" in drawn
    assert ("video (1)" in drawn) == ("audio (1)" in drawn) == bool(qualities)
    assert "both" not in drawn


def test_the_benchmark_has_a_panel_for_each_corruption_with_severities(tmp_path: Path) -> None:
    def figures(track: str, harmless: bool, qualities: list[float | None]) -> dict[str, object]:
        keys = ("quality", "quality_10", "quality_90", "quality_cross")
        severities = [{"severity": at} | dict.fromkeys(keys, each) for at, each in enumerate(qualities)]
        return {
            "track": track, "unit": "dB", "harmless": harmless, "severities": severities,
            "tau": 0.9, "area": 1.0,
        }  # fmt: skip

    corruptions = {
        "noise": figures("video", False, [0.9, 0.5]),
        "pitch moved": figures("audio", True, [1.0, 1.0]),
        "encoded again": figures("video", True, [1.0]),
        "another take": figures("audio", False, [None, None]),
        "cut": figures("video", False, [0.8, None]) | {"tau": None, "area": None},
    }
    plot_benchmark(tmp_path / "benchmark.svg", {"corruptions": corruptions})
    drawn = (tmp_path / "benchmark.svg").read_text()
    assert "noise: tau 0.90, area 1.00" in drawn
    assert "pitch moved: harmless" in drawn
    assert "cut: too few clips" in drawn
    assert "encoded again" not in drawn
    assert "another take" not in drawn

"""Calibration: anchors from good and bad pairs, the curve between them, and what is left out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.errors import RunError
from score.calibrate import MIN_PAIRS, calibrate, scale_anchors
from score.quality import MOST, Anchors, Calibration, load_calibration
from score.signals.catalogue import JUDGED, MODALITIES, SIGNALS

WEIGHED = [name for name, signal in SIGNALS.items() if signal.direction == "higher"]


def anchors(bad: float = 0.0, good: float = 1.0) -> Anchors:
    return Anchors(bad=bad, good=good, good_pairs=9, bad_pairs=9, basis="corpus")


def test_the_curve_passes_its_anchors_and_never_turns() -> None:
    one = anchors(bad=0.2, good=0.9)
    assert one.quality(np.array([0.9, 0.95, 0.2])).tolist() == pytest.approx([1.0, 1.0, 0.1])
    assert one.quality(np.array([0.55]))[0] == pytest.approx(1 / (1 + 9 / 4))
    values = one.quality(np.linspace(-1, 0.9, 100))
    assert (np.diff(values) > 0).all()
    assert values[0] > 0
    assert np.isnan(one.quality(np.array([np.nan]))[0])


def test_anchors_are_the_quantiles_of_the_pairs() -> None:
    good, bad = np.linspace(0.8, 1.0, 11), np.linspace(0.0, 0.5, 11)
    found = calibrate(dict.fromkeys(SIGNALS, good), dict.fromkeys(SIGNALS, bad))
    assert set(found.signals) == set(WEIGHED)
    for name, one in found.signals.items():
        if SIGNALS[name].bad == "neither":  # another clip has a face as well, so no pair is bad
            assert ((one.bad, one.good), one.basis) == (SIGNALS[name].default_anchors, "default")
            continue
        # Two clips that have nothing to do with each other may mean the same by chance.
        assert one.bad == pytest.approx(0.125 if SIGNALS[name].chance else 0.25)
        assert one.good == pytest.approx(0.804 if SIGNALS[name].modality == "cross" else 0.84)
        assert (one.good_pairs, one.basis) == (11, "corpus")


def test_neither_order_nor_missing_values_change_the_anchors() -> None:
    good, bad = np.random.default_rng(0).uniform(0.6, 1, 20), np.random.default_rng(1).uniform(0, 0.4, 20)
    straight = calibrate({"video_motion": good}, {"video_motion": bad})
    mixed = calibrate({"video_motion": [*good[::-1], np.nan]}, {"video_motion": [np.nan, *bad[::-1]]})
    assert straight == mixed


def test_few_pairs_give_default_anchors_and_no_telling_apart_leaves_out() -> None:
    few = {"video_motion": [1.0] * (MIN_PAIRS - 1)}
    found = calibrate(few, few)
    assert found.signals["video_motion"].basis == "default"
    assert found.signals["video_motion"].good == SIGNALS["video_motion"].default_anchors[1]
    agreements = [name for name in SIGNALS if name.endswith("agreement")]
    assert found.left_out == dict.fromkeys(agreements, "0 good and 0 bad pairs, wanted 5 of each")
    alike = calibrate({"audio_pitch": [0.5] * 9}, {"audio_pitch": [0.49] * 9}, {"cross_sync": "no reason"})
    assert "does not tell them apart" in alike.left_out["audio_pitch"]
    assert alike.left_out["cross_sync"] == "no reason"
    assert not {"audio_pitch", "cross_sync"} & set(alike.signals)


def raw(*qualities: float) -> np.ndarray:
    """Raw values of these qualities under `anchors()`; NaN stays NaN."""
    return 1 - np.sqrt((1 / np.array(qualities) - 1) / 9)


def test_a_modality_has_the_harmonic_mean_of_its_signals_and_the_whole_is_worse_than_each_part() -> None:
    calibration = Calibration(
        signals={name: anchors() for name in ("video_motion", "video_flicker", "audio_pitch", "cross_sync")},
        left_out={},
    )
    signals = {
        "video_motion": raw(0.5, 1, 0.5, np.nan),
        "video_flicker": raw(0.1, 1, np.nan, np.nan),
        "audio_pitch": raw(0.5, 0.5, 0.1, 0.1),
        "cross_sync": raw(1, 1, 0.5, np.nan),
    }
    found = calibration.qualities(signals, ["video", "audio", "both", "video"])
    assert found["quality_video"][0] == found["quality"][0] == pytest.approx(2 / (1 / 0.5 + 1 / 0.1))
    assert np.isnan(found["quality_audio"][0])
    assert np.isnan(found["quality_video"][1])
    assert found["quality"][1] == pytest.approx(0.5)
    assert found["quality"][2] == pytest.approx(1 / (1 + 9 * (1 / 9 + 1 + 1 / 9)))
    assert np.isnan(found["quality"][3])


def test_a_mouth_or_a_mood_that_is_wrong_leaves_the_order_of_ruined_variants_to_the_rest() -> None:
    names = ("video_motion", "video_agreement", "cross_sync")
    calibration = Calibration(
        signals={name: anchors() for name in names}, left_out={}, signal_weights={"video_agreement": 8.0}
    )
    for wrong in ("video_agreement", "cross_sync"):
        signals = {name: np.ones(3) for name in names} | {wrong: np.array([1.0, -1.0, -9.0])}
        alone = calibration.qualities(signals, ["video"] * 3)["quality"]
        assert alone == pytest.approx([1, *[1 / (1 + 9 * MOST**2)] * 2])
        signals["video_motion"] = raw(1, 0.5, 0.2)
        ordered = calibration.qualities(signals, ["video"] * 3)["quality"]
        assert (np.diff(ordered) < 0).all()
        assert ordered[1] < alone[1]


@pytest.mark.parametrize("weight", [0.1, 1.0, 4.0])
def test_a_mood_of_little_weight_adds_little_however_far_it_moved(weight: float) -> None:
    calibration = Calibration(
        signals={"video_agreement": anchors()}, left_out={}, signal_weights={"video_agreement": weight}
    )
    moved = calibration.qualities({"video_agreement": np.array([0.9, -9.0])}, ["video"] * 2)["quality"]
    assert moved == pytest.approx([1 / (1 + 9 * weight * 0.01), 1 / (1 + 9 * min(weight, 1) * MOST**2)])


def test_the_quality_of_a_modality_is_the_curve_at_the_root_mean_square_of_the_distances() -> None:
    names = ("video_motion", "video_structure", "video_content")
    calibration = Calibration(signals={name: anchors() for name in names}, left_out={})
    values = np.random.default_rng(0).uniform(-2, 1.2, (3, 50))
    found = calibration.qualities(dict(zip(names, values, strict=True)), ["video"] * 50)["quality"]
    distance = np.sqrt((np.maximum(1 - values, 0) ** 2).mean(axis=0))
    np.testing.assert_allclose(found, anchors().quality(1 - distance))


def test_one_ruined_signal_is_not_outvoted_and_the_noise_of_one_hardly_counts() -> None:
    names = [name for name in WEIGHED if name.startswith("audio_")]
    calibration = Calibration(signals={name: anchors() for name in names}, left_out={})
    signals = {name: np.array([1.0, 1.0]) for name in names} | {"audio_pitch": np.array([-2.0, 0.8])}
    ruined, noisy = calibration.qualities(signals, ["audio", "audio"])["quality"]
    assert ruined < 0.15
    assert noisy > 0.9


def random_signals(rows: int, seed: int) -> dict[str, np.ndarray]:
    """Values from beyond the good anchor of `anchors()` to far below the bad one, a fifth of them missing."""
    rng = np.random.default_rng(seed)
    return {
        name: np.where(rng.uniform(size=rows) < 0.2, np.nan, rng.uniform(-2, 1.5, rows)) for name in WEIGHED
    }


EVERY = Calibration(
    signals={name: anchors() for name in WEIGHED},
    left_out={},
    signal_weights={"video_agreement": 3.0, "audio_agreement": 0.5},
)


@pytest.mark.parametrize("kind", JUDGED)
def test_no_quality_falls_when_a_signal_rises(kind: str) -> None:
    signals, rng = random_signals(200, seed=1), np.random.default_rng(2)
    before = EVERY.qualities(signals, [kind] * 200)
    for name in WEIGHED:
        after = EVERY.qualities(signals | {name: signals[name] + rng.uniform(0, 2, 200)}, [kind] * 200)
        for quality, values in before.items():
            np.testing.assert_array_equal(np.isnan(values), np.isnan(after[quality]))
            assert (np.nan_to_num(after[quality] - values) >= -1e-12).all(), (name, quality)


def test_no_whole_is_better_than_its_worst_part() -> None:
    signals = random_signals(500, seed=3)
    found = {kind: EVERY.qualities(signals, [kind] * 500) for kind in JUDGED}
    both = found["both"]
    # A clip with both tracks changed is no better than its worse half, with what goes for both.
    halves = np.fmin(found["video"]["quality"], found["audio"]["quality"])
    assert (both["quality"] <= halves + 1e-12).all()
    for modality in MODALITIES:
        parts = both[f"quality_{modality}"]
        assert (both["quality"] <= np.where(np.isnan(parts), 1, parts) + 1e-12).all()
    # How well the tracks fit says nothing good of them.
    fitting = signals | {name: np.ones(500) for name in WEIGHED if name.startswith("cross_")}
    excesses = [1 / both[f"quality_{track}"] - 1 for track in ("video", "audio")]
    tracks = 1 / (1 + np.nansum(excesses, axis=0))
    np.testing.assert_allclose(EVERY.qualities(fitting, ["both"] * 500)["quality"], tracks)


def test_what_another_clip_may_have_speaks_against_a_variant_and_not_for_it() -> None:
    names = ("video_motion", "video_flicker", "audio_clarity", "cross_sync", "cross_label")
    assert {name for name in WEIGHED if SIGNALS[name].veto_only} >= {
        "video_flicker", "video_sharpness", "video_face", "video_expression", "audio_clarity",
        "audio_quality", "audio_emotion", "cross_label",
    }  # fmt: skip
    assert not any(
        SIGNALS[name].veto_only
        for name in ("video_motion", "audio_pitch", "cross_sync", "video_agreement", "audio_agreement")
    )
    calibration = Calibration(signals={name: anchors() for name in names}, left_out={})
    signals = {
        "video_motion": raw(0.5, 1),
        "video_flicker": raw(1, 0.5),
        "audio_clarity": raw(0.5, 0.5),
        "cross_sync": raw(0.1, 1),
        "cross_label": raw(1, 0.5),
    }
    found = calibration.qualities(signals, ["both", "both"])
    assert found["quality_video"] == pytest.approx([0.5, 2 / 3])  # no better than the motion; worse
    assert found["quality_audio"] == pytest.approx([0.5, 0.5])  # alone it says what it says
    assert found["quality_cross"] == pytest.approx([2 / 11, 2 / 3])


def test_the_scale_of_weights_has_the_quantiles_of_the_pairs_or_the_defaults() -> None:
    good, bad = np.linspace(0.8, 1.0, 11), np.linspace(0.0, 0.5, 11)
    found = scale_anchors(np.append(good, np.nan), bad)
    assert (found.bad, found.good) == pytest.approx((0.375, 0.82))
    assert (found.good_pairs, found.bad_pairs, found.basis) == (11, 11, "corpus")
    few, alike = scale_anchors(good[: MIN_PAIRS - 1], bad), scale_anchors(good, good)
    assert {(each.bad, each.good, each.basis) for each in (few, alike)} == {(0.1, 1.0, "default")}


def test_saved_and_loaded_is_equal(tmp_path: Path) -> None:
    saved = Calibration(
        signals={"video_motion": anchors()},
        left_out={"audio_agreement": "few clips"},
        signal_weights={"video_agreement": 3.5},
    )
    saved.save(tmp_path, predictors={"video_agreement": {"folds": 5}})
    assert load_calibration(tmp_path) == saved
    read = json.loads((tmp_path / "calibration.json").read_text())
    assert read["predictors"]["video_agreement"]["folds"] == 5
    (tmp_path / "calibration.json").write_text(json.dumps({"signals": {}, "left_out": {}}))
    assert load_calibration(tmp_path).signal_weights == {}  # as 0.1.0 wrote it


def test_a_weighted_signal_adds_its_distance_and_hides_nothing() -> None:
    names = ("video_motion", "video_flicker", "video_agreement")
    weighted = Calibration(
        signals={name: anchors() for name in names}, left_out={}, signal_weights={"video_agreement": 4.0}
    )
    signals = {
        "video_motion": raw(0.1, 1, 0.1, np.nan),
        "video_flicker": raw(1, 1, 1, np.nan),
        "video_agreement": raw(1, 0.5, np.nan, 0.5),
    }
    found = weighted.qualities(signals, ["video"] * 4)["quality"]
    assert found == pytest.approx([0.1, 1 / (1 + 4), 0.1, 1 / (1 + 4)])  # flicker is no better than motion
    equal = weighted.equally_weighted().qualities(signals, ["video"] * 4)["quality"]
    assert equal == pytest.approx([2 / (10 + 1), 2 / (1 + 2), 0.1, 0.5])


def saved(weights: dict[str, float] | None = None, **anchors: Any) -> str:
    motion = {"bad": 0.0, "good": 1.0, "good_pairs": 9, "bad_pairs": 9, "basis": "corpus"} | anchors
    return json.dumps({"signals": {"video_motion": motion}, "left_out": {}, "signal_weights": weights or {}})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "missing; score the store first"),
        ("[]", "no calibration"),
        ("{", "again"),
        ('{"signals": [1], "left_out": {}}', "no calibration"),
        (saved(bad="x"), "no calibration"),
        (saved(bad=1.0), r"no calibration \(video_motion: bad is 1.0, good 1.0\)"),
        (saved({"video_agreement": -3}, bad=0.1), "no calibration .signal_weights: "),
    ],
)
def test_a_missing_or_broken_file_is_refused(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "calibration.json").write_text(content)
    with pytest.raises(RunError, match=message):
        load_calibration(tmp_path)

"""Calibration: anchors from good and bad pairs, the curve between them, and what is left out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pipelines.errors import RunError
from score.calibrate import MIN_PAIRS, Anchors, Calibration, calibrate, load
from score.signals.catalogue import SIGNALS

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
        assert one.good == pytest.approx(0.82)
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


def test_qualities_are_geometric_means_over_what_applies() -> None:
    calibration = Calibration(
        signals={name: anchors() for name in ("video_motion", "video_flicker", "audio_pitch", "cross_sync")},
        left_out={},
    )
    half, tenth = 1 - np.sqrt(1 / 9), 0.0  # values of quality 0.5 and 0.1
    signals = {
        "video_motion": np.array([half, 1, half, np.nan]),
        "video_flicker": np.array([tenth, 1, np.nan, np.nan]),
        "audio_pitch": np.array([half, half, tenth, tenth]),
        "cross_sync": np.array([1, 1, half, np.nan]),
    }
    found = calibration.qualities(signals, ["video", "audio", "both", "video"])
    assert found["quality_video"][0] == pytest.approx(np.sqrt(0.5 * 0.1))
    assert np.isnan(found["quality_audio"][0])
    assert found["quality"][0] == pytest.approx(np.sqrt(np.sqrt(0.05)))
    assert np.isnan(found["quality_video"][1])
    assert found["quality"][1] == pytest.approx(np.sqrt(0.5))
    assert found["quality"][2] == pytest.approx((0.5 * 0.1 * 0.5) ** (1 / 3))
    assert np.isnan(found["quality"][3])


def test_what_another_clip_may_have_speaks_against_a_variant_and_not_for_it() -> None:
    names = ("video_motion", "video_agreement", "audio_agreement", "cross_sync", "cross_agreement")
    assert {name for name in WEIGHED if SIGNALS[name].veto_only} >= {
        "video_flicker", "video_sharpness", "video_agreement", "video_face", "video_expression",
        "audio_clarity", "audio_agreement", "audio_quality", "audio_emotion", "cross_agreement",
        "cross_label",
    }  # fmt: skip
    assert not any(SIGNALS[name].veto_only for name in ("video_motion", "audio_pitch", "cross_sync"))
    calibration = Calibration(signals={name: anchors() for name in names}, left_out={})
    half, tenth = 1 - np.sqrt(1 / 9), 0.0
    signals = {
        "video_motion": np.array([half, 1.0]),
        "video_agreement": np.array([1.0, half]),
        "audio_agreement": np.array([half, half]),
        "cross_sync": np.array([tenth, 1.0]),
        "cross_agreement": np.array([1.0, half]),
    }
    found = calibration.qualities(signals, ["both", "both"])
    assert found["quality_video"] == pytest.approx([0.5, np.sqrt(0.5)])  # no better than the motion; worse
    assert found["quality_audio"] == pytest.approx([0.5, 0.5])  # alone it says what it says
    assert found["quality_cross"] == pytest.approx([np.sqrt(0.1), np.sqrt(0.5)])


def test_saved_and_loaded_is_equal(tmp_path: Path) -> None:
    saved = Calibration(signals={"video_motion": anchors()}, left_out={"cross_agreement": "few clips"})
    saved.save(tmp_path, predictors={"cross_agreement": {"folds": 5}})
    assert load(tmp_path) == saved
    assert (
        json.loads((tmp_path / "calibration.json").read_text())["predictors"]["cross_agreement"]["folds"] == 5
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "missing; score the store first"), ("[]", "no calibration"), ("{", "again")],
)
def test_a_missing_or_broken_file_is_refused(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "calibration.json").write_text(content)
    with pytest.raises(RunError, match=message):
        load(tmp_path)

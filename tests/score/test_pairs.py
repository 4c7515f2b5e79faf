"""Pairs of known quality: what they say by signal and as wholes, and how they are kept."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pipelines.atomic import DamagedFile
from pipelines.errors import RunError
from score.calibrate import PAIRS_FILE, Pairs, load_pairs
from score.quality import MOST, Anchors, Calibration
from score.signals.catalogue import SIGNALS

NONE = float("nan")


def made(values: dict[str, list[float]], cases: list[str]) -> Pairs:
    """Pairs of these cases with these signals, and no others."""
    nothing = {name: np.full(len(cases), NONE) for name in SIGNALS}
    return Pairs(cases, nothing | {name: np.array(each) for name, each in values.items()})


CASES = [
    "encoded_again",
    "another_look",
    "another_voice",
    "corrupted",
    "spoiled",
    "mismatched_video",
    "mismatched_audio",
]
PAIRS = made(
    {
        "video_motion": [1.0, 0.9, NONE, 0.9, 0.8, 0.1, NONE],
        "video_sharpness": [1.0, 0.7, NONE, 0.2, 0.3, 1.0, NONE],
        "audio_energy": [NONE, NONE, 0.8, 0.7, 0.6, NONE, 0.0],
        "cross_sync": [0.0, 0.0, -0.1, NONE, NONE, -1.0, -0.8],
    },
    CASES,
)


def test_each_signal_has_the_cases_that_are_good_and_bad_for_it() -> None:
    good, bad = PAIRS.by_signal()
    assert (good["video_motion"], bad["video_motion"]) == ([1.0, 0.9], [0.1])
    assert (good["video_sharpness"], bad["video_sharpness"]) == ([1.0, 0.7], [0.2, 0.3])  # corrupted
    assert (good["audio_energy"], bad["audio_energy"]) == ([0.8], [0.0])
    assert (good["cross_sync"], bad["cross_sync"]) == ([0.0, 0.0, -0.1], [-1.0, -0.8])


def test_the_scale_is_of_whole_pairs_each_judged_as_a_variant_of_the_track_that_was_changed() -> None:
    found = {"good_pairs": 9, "bad_pairs": 9, "basis": "corpus"}
    anchors = {name: Anchors(bad=0.0, good=1.0, **found) for name in ("video_motion", "video_sharpness")}
    anchors |= {"audio_energy": Anchors(bad=0.0, good=1.0, **found)}
    anchors |= {"cross_sync": Anchors(bad=-1.0, good=0.0, **found)}
    many = made({name: np.tile(each, 5).tolist() for name, each in PAIRS.signals.items()}, 5 * CASES)
    scale = many.scale(Calibration(signals=anchors, left_out={}))

    def quality(*distances: float, mouth: float = 0.0) -> float:
        return float(1 / (1 + 9 * (np.mean(np.square(distances)) + min(mouth, MOST) ** 2)))

    good = [quality(0.1, 0.3), quality(0.2, mouth=0.1)]  # and not what was only encoded again
    bad = [quality(0.1, 0.8), quality(0.3), quality(0.2, 0.7), quality(0.4)]  # corrupted: one of each track
    bad += [quality(0.9, mouth=1), quality(1, mouth=0.8)]  # another's sharp video is no better
    assert scale.good == pytest.approx(np.quantile(5 * good, 0.1))
    assert scale.bad == pytest.approx(np.quantile(5 * bad, 0.75))
    assert (scale.good_pairs, scale.bad_pairs, scale.basis) == (10, 30, "corpus")


def test_saved_and_loaded_are_equal(tmp_path: Path) -> None:
    PAIRS.save(tmp_path)
    assert len((tmp_path / PAIRS_FILE).read_text().splitlines()) == len(CASES)
    found = load_pairs(tmp_path)
    assert found.cases == PAIRS.cases
    for name, values in PAIRS.signals.items():
        np.testing.assert_array_equal(found.signals[name], values)


def test_without_a_file_there_are_none_and_the_scale_is_the_default(tmp_path: Path) -> None:
    found = load_pairs(tmp_path)
    assert found.cases == []
    assert found.scale(Calibration(signals={}, left_out={})).basis == "default"


@pytest.mark.parametrize("line", [{"video_motion": 1.0}, {"case": "corrupted", "video_motion": "much"}])
def test_a_malformed_file_is_refused(tmp_path: Path, line: dict[str, object]) -> None:
    (tmp_path / PAIRS_FILE).write_text(json.dumps(line))
    with pytest.raises(RunError, match=r"pairs\.jsonl: no pairs .* score the store again, without --reweigh"):
        load_pairs(tmp_path)
    (tmp_path / PAIRS_FILE).write_text("{")
    with pytest.raises(DamagedFile, match="line 1 is damaged"):
        load_pairs(tmp_path)

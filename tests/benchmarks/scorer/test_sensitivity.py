"""The benchmark: each corruption does what it says, and a small run's counts and figures add up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.commands import import_puppets
from benchmarks.scorer.corruptions import (
    CORRUPTIONS,
    FADE,
    Corruption,
    another_take,
    flattened,
    in_noise,
    late,
    other_words,
    overdriven,
    raised,
)  # fmt: skip
from benchmarks.scorer.dataset import variants
from benchmarks.scorer.partners import Partners, redrawn
from benchmarks.scorer.report import area, markdown, tau
from benchmarks.scorer.sensitivity import main, run
from pipelines import pitch
from pipelines.errors import UsageError
from pipelines.media import read_audio, read_video
from pipelines.store import StoreReader
from tests.score.clips import face, original, voice, write_store

FEW = {
    name: CORRUPTIONS[name]
    for name in (
        "encoded again", "colours changed", "noise", "sound encoded again", "pitch moved", "band loss",
    )
}  # fmt: skip
STEADY = (
    "colours changed", "noise", "blur", "block artefacts", "shuffled frames", "frozen", "noise in the sound",
    "clipping", "band loss", "dropped speech", "another expression", "another face", "another's words",
)  # fmt: skip
"""The stronger the severity, the farther from the source, sample by sample."""


@pytest.fixture(scope="module")
def tracks() -> dict[str, np.ndarray]:
    mouth = np.random.default_rng(0).uniform(0, 1, 30)
    return {"video": face(0, mouth), "audio": voice(0)}


@pytest.fixture(scope="module")
def others() -> dict[str, np.ndarray]:
    """Another clip's tracks, longer than the first's."""
    mouth = np.random.default_rng(1).uniform(0, 1, 37)
    return {"video": face(5, mouth), "audio": voice(5, seconds=2.3)}


def changed(track: np.ndarray, corruption: Corruption, severity: float, other: np.ndarray) -> np.ndarray:
    partner = [] if corruption.partner is None else [other]
    return corruption.change(track, severity, np.random.default_rng(0), *partner)


def distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a.astype(float) - b.astype(float)).mean())


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_the_strongest_severity_changes_the_clip_and_keeps_its_form(
    tracks: dict[str, np.ndarray], others: dict[str, np.ndarray], name: str
) -> None:
    corruption = CORRUPTIONS[name]
    source = tracks[corruption.track]
    made = changed(source.copy(), corruption, corruption.severities[-1], others[corruption.track])
    assert (made.shape, made.dtype) == (source.shape, source.dtype)
    if corruption.track == "audio":
        assert np.abs(made).max() <= 1
    scale = 255 if corruption.track == "video" else float(np.abs(source).mean())
    assert distance(made, source) == 0 if "encoded again" in name else distance(made, source) > 0.01 * scale


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_no_severity_touches_what_it_is_given(
    tracks: dict[str, np.ndarray], others: dict[str, np.ndarray], name: str
) -> None:
    corruption = CORRUPTIONS[name]
    source, other = tracks[corruption.track].copy(), others[corruption.track].copy()
    changed(source, corruption, corruption.severities[len(corruption.severities) // 2], other)
    assert np.array_equal(source, tracks[corruption.track])
    assert np.array_equal(other, others[corruption.track])


@pytest.mark.parametrize("name", STEADY)
def test_a_stronger_severity_is_farther_from_the_source(
    tracks: dict[str, np.ndarray], others: dict[str, np.ndarray], name: str
) -> None:
    corruption = CORRUPTIONS[name]
    source, other = tracks[corruption.track], others[corruption.track]
    distances = [
        distance(changed(source, corruption, severity, other), source) for severity in corruption.severities
    ]
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


@pytest.fixture(scope="module")
def partners(tmp_path_factory: pytest.TempPathFactory) -> Partners:
    """Of six clips by two speakers, the second of which says what the first says; one clip is mute."""
    rows = [original(seed, groups=2) for seed in range(6)]
    rows[4] |= {"audio": None}
    rows[5] |= {"text": "other words"}
    return Partners(StoreReader(write_store(tmp_path_factory.mktemp("partners"), rows)))


def test_a_partner_is_of_the_same_person_in_another_mood_or_a_stranger(partners: Partners) -> None:
    rows = [original(seed, groups=2) for seed in range(6)]
    labels = [row["label"] for row in rows]
    for at, row in enumerate(rows):
        same = [other for other in range(at % 2, 6, 2) if other != at]
        farthest = max(same, key=lambda other: abs(labels[other] - labels[at]))
        found = partners.track(row, "video", "same person", 1)
        assert np.array_equal(found, read_video(rows[farthest]["video"]["bytes"]).frames)
        stranger = partners.track(row, "video", "stranger", 1)
        theirs = [read_video(rows[other]["video"]["bytes"]).frames for other in range(1 - at % 2, 6, 2)]
        assert any(np.array_equal(stranger, each) for each in theirs)
        assert partners.track(row, "video", "redrawn", 1) is None


def test_another_take_has_the_same_words_and_a_sound(partners: Partners) -> None:
    first, third, other = (original(seed, groups=2) for seed in (0, 3, 5))
    # Of the first speaker's other clips one is mute, so it is as good as not there, or the farther one.
    found = partners.track(first, "audio", "same person", 1)
    assert found is None or len(found) == len(read_audio(first["audio"]["bytes"]))
    assert np.array_equal(
        partners.track(third, "audio", "same person", 1), read_audio(original(1, groups=2)["audio"]["bytes"])
    )
    assert partners.track(other | {"text": "other words"}, "audio", "same person", 1) is None


def test_a_puppet_is_drawn_again_with_its_words_and_another_mood(tmp_path: Path) -> None:
    puppets = import_puppets(tmp_path, clips=8, seed=3)
    row = next(row for row in StoreReader(puppets).rows() if row["split"] == "train")
    frames, samples = read_video(row["video"]["bytes"]).frames, read_audio(row["audio"]["bytes"])
    same = [redrawn(row, track, 0.0, 3) for track in ("video", "audio")]
    assert np.corrcoef(same[0].ravel(), frames.ravel())[0, 1] > 0.99  # the store's were encoded, twice
    # The label was rounded, and with it, on some processors, the length of what is said.
    assert len(same[1]) == pytest.approx(len(samples), abs=16)
    both = min(len(same[1]), len(samples))
    assert np.corrcoef(same[1][:both], samples[:both])[0, 1] > 0.99
    moved = [distance(redrawn(row, "video", share, 3), same[0]) for share in (0.2, 0.6, 1.0)]
    assert 0 < moved[0] < moved[1] < moved[2]
    louder = redrawn(row, "audio", 1.0, 3)
    assert len(louder) != len(samples) or distance(louder, samples) > 0.1 * float(np.abs(samples).mean())


def test_a_splice_is_the_other_sound_in_one_piece_and_the_own_outside(
    tracks: dict[str, np.ndarray], others: dict[str, np.ndarray]
) -> None:
    own, rng = tracks["audio"], np.random.default_rng(0)
    made = another_take(own, 0.4, rng, others["audio"])
    touched = np.flatnonzero(np.abs(made - own) > 1e-6)
    assert touched[-1] - touched[0] == pytest.approx(0.4 * len(own), abs=2 * FADE + 2)
    whole = another_take(own, 1.0, rng, others["audio"])
    contour, theirs = (np.log2(pitch.track(each)) for each in (whole, others["audio"]))
    assert np.nanmedian(contour) == pytest.approx(np.nanmedian(theirs), abs=0.05)


def test_another_s_words_are_as_loud_as_the_own(
    tracks: dict[str, np.ndarray], others: dict[str, np.ndarray]
) -> None:
    own = tracks["audio"]
    made = other_words(own, 1.0, np.random.default_rng(0), 0.1 * others["audio"])
    assert np.sqrt((made**2).mean()) == pytest.approx(np.sqrt((own**2).mean()), rel=0.2)


def test_a_clip_without_sound_gets_no_variants_of_it_and_draws_depend_on_the_id_alone(
    partners: Partners,
) -> None:
    row = original(0, groups=2) | {"audio": None}
    made = list(variants(row, FEW, partners, 0))
    assert {variant["kind"] for variant in made} == {"video"}
    assert len(made) == sum(
        len(corruption.severities) for corruption in FEW.values() if corruption.track == "video"
    )
    assert made == list(variants(row | {"split": "train"}, FEW, partners, 0))
    for other in (variants(row, FEW, partners, 1), variants(row | {"id": "another"}, FEW, partners, 0)):
        assert made[-1]["video"] != list(other)[-1]["video"]


def test_a_small_run_writes_files_whose_counts_and_figures_add_up(tmp_path: Path) -> None:
    puppets = import_puppets(tmp_path / "originals", clips=8, seed=0)
    report = run(puppets, tmp_path, seed=0, puppets_seed=0, corruptions=FEW, command="the command")
    assert json.loads((tmp_path / "benchmark.json").read_text()) == report
    assert (tmp_path / "benchmark.md").read_text() == markdown(report)
    clips, figures = 4, report["corruptions"]
    assert "tau" not in figures["encoded again"]
    assert (report["clips"], report["rejected"]) == (clips, 0)
    assert report["variants"] == clips * sum(len(corruption.severities) for corruption in FEW.values())
    assert list(figures) == list(FEW)
    for name, corruption in FEW.items():
        severities = figures[name]["severities"]
        assert [each["severity"] for each in severities] == list(corruption.severities)
        assert {each["rows"] for each in severities} == {clips}
    for name in ("noise", "band loss"):
        assert (figures[name]["tau"], figures[name]["area"]) == (pytest.approx(1, abs=0.1), 1)
        first, *_, last = (each["quality"] for each in figures[name]["severities"])
        assert last < 0.3 < 0.9 < first
        assert figures[name]["other"] < 0.01
    first, second = markdown(report).split("\n| corruption |")[1:]
    assert [line.split(" | ")[0] for line in first.splitlines()[2:]] == [f"| {name}" for name in FEW]
    spoilt = [name for name, corruption in FEW.items() if not corruption.harmless]
    assert [line.split(" | ")[0] for line in second.splitlines()[2:]] == [f"| {name}" for name in spoilt]
    assert figures["noise"]["signals"]["video_structure"] == {"tau": pytest.approx(1, abs=0.1), "area": 1}


def test_rejected_variants_are_counted_and_null_in_no_median(tmp_path: Path) -> None:
    def cut(frames: np.ndarray, seconds: float, rng: np.random.Generator) -> np.ndarray:
        return frames[: len(frames) // 3] if seconds else frames

    corruptions = FEW | {"cut": Corruption("video", cut, (0, 1, 1.5), "s")}
    store = write_store(tmp_path / "in", [original(seed) for seed in range(2)] + [original(9, split="test")])
    report = run(store, tmp_path, seed=0, corruptions=corruptions)
    assert (report["clips"], report["rejected"]) == (2, 4)
    cut_short: dict[str, Any] = report["corruptions"]["cut"]
    assert [severity["rows"] for severity in cut_short["severities"]] == [2, 0, 0]
    assert [severity["quality"] for severity in cut_short["severities"]][1:] == [None, None]
    assert (cut_short["tau"], cut_short["area"]) == (None, None)


def test_a_clip_without_a_picture_counts_where_it_has_variants(tmp_path: Path) -> None:
    store = write_store(tmp_path / "in", [original(0), original(1) | {"video": None}])
    report = run(store, tmp_path, seed=0, corruptions=FEW)
    rows = {
        name: {severity["rows"] for severity in figures["severities"]}
        for name, figures in report["corruptions"].items()
    }
    assert rows == {name: {1 if corruption.track == "video" else 2} for name, corruption in FEW.items()}
    assert report["rejected"] == 0


def test_a_folder_that_is_not_empty_and_too_few_clips_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"clips: 4 is too few for three splits; take 8"):
        main(["--out", str(tmp_path / "new"), "--clips", "4"])
    (tmp_path / "there").touch()
    with pytest.raises(UsageError, match=r"--out: .* is not empty, .*; name another"):
        main(["--out", str(tmp_path)])

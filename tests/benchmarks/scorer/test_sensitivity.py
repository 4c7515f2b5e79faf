"""The benchmark: which variants a clip gets, and that a small run's counts and figures add up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.commands import import_puppets
from benchmarks.scorer.corpora import Corpus
from benchmarks.scorer.corruptions import CORRUPTIONS, Corruption
from benchmarks.scorer.dataset import variants
from benchmarks.scorer.partners import Partners
from benchmarks.scorer.report import markdown
from benchmarks.scorer.sensitivity import main, run
from pipelines.errors import RunError, UsageError
from pipelines.media import read_audio, read_video
from pipelines.row import provenance
from pipelines.store import StoreReader
from tests.score.clips import original, variant, write_store

FEW = {
    name: CORRUPTIONS[name]
    for name in (
        "encoded again", "colours changed", "noise", "sound encoded again", "pitch moved", "band loss",
    )
}  # fmt: skip


def test_a_clip_without_sound_gets_no_variants_of_it_and_draws_depend_on_the_id_alone(tmp_path: Path) -> None:
    partners = Partners(StoreReader(write_store(tmp_path, [original(seed, groups=2) for seed in range(2)])))
    row = original(0, groups=2) | {"audio": None}
    made = list(variants(row, FEW, partners, 0))
    assert {variant["kind"] for variant in made} == {"video"}
    assert len(made) == sum(
        len(corruption.severities) for corruption in FEW.values() if corruption.track == "video"
    )
    assert made == list(variants(row | {"split": "train"}, FEW, partners, 0))
    for other in (variants(row, FEW, partners, 1), variants(row | {"id": "another"}, FEW, partners, 0)):
        assert made[-1]["video"] != list(other)[-1]["video"]


def test_severities_in_seconds_are_cut_off_at_the_tracks_own_rate(tmp_path: Path) -> None:
    row = original(0)
    partners = Partners(StoreReader(write_store(tmp_path, [row])))
    cuts = {name: each for name, each in CORRUPTIONS.items() if each.unit == "s"}
    found = 0
    for cut in variants(row, cuts, partners, 0):
        made = provenance(cut)
        if cuts[made["corruption"]].track == "video":
            length = len(read_video(cut["video"]["bytes"]).frames) / row["fps"]
        else:
            length = len(read_audio(cut["audio"]["bytes"])) / 16_000
        assert length == pytest.approx(row["duration_s"] - made["severity"], abs=1e-3)
        found += 1
    assert found == sum(len(each.severities) for each in cuts.values())


def test_a_small_run_writes_files_whose_counts_and_figures_add_up(tmp_path: Path) -> None:
    puppets = import_puppets(tmp_path / "originals", clips=8, seed=0)
    corpus = Corpus(puppets, puppets_seed=0)
    report = run(corpus, tmp_path, seed=0, corruptions=FEW, command="the command")
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
        assert figures[name]["areas"][-1] == 1
        overall = figures[name]["severities"][-1]
        assert overall["overall"] == pytest.approx(min(last, overall["quality_cross"]), rel=0.2)
    harmless = [name for name, corruption in FEW.items() if corruption.harmless]
    assert report["verdict"]["track"] == {
        "harmful": 2, "missed": [], "harmless": len(harmless), "blamed": [],
    }  # fmt: skip
    first, second = markdown(report).split("\n| corruption |")[1:]
    assert [line.split(" | ")[0] for line in first.splitlines()[2:]] == [f"| {name}" for name in FEW]
    spoilt = [name for name, corruption in FEW.items() if not corruption.harmless]
    assert [line.split(" | ")[0] for line in second.splitlines()[2:]] == [f"| {name}" for name in spoilt]
    structure = figures["noise"]["signals"]["video_structure"]
    assert (structure["tau"], structure["area"]) == (pytest.approx(1, abs=0.1), 1)


def test_only_so_many_clips_are_corrupted_and_all_are_scored_with(tmp_path: Path) -> None:
    store = write_store(tmp_path / "in", [original(seed) for seed in range(4)])
    corruptions = {name: FEW[name] for name in ("encoded again", "noise", "sound encoded again")}
    report = run(Corpus(store), tmp_path, seed=0, corrupted=2, corruptions=corruptions)
    assert (report["clips"], report["variants"]) == (4, 2 * 7)
    assert {each["rows"] for each in report["corruptions"]["noise"]["severities"]} == {2}


def test_rejected_variants_are_counted_and_null_in_no_median(tmp_path: Path) -> None:
    def cut(frames: np.ndarray, seconds: float, rng: np.random.Generator) -> np.ndarray:
        return frames[: len(frames) // 3] if seconds else frames

    corruptions = FEW | {"cut": Corruption("video", cut, (0, 1, 1.5), "times")}
    store = write_store(tmp_path / "in", [original(seed) for seed in range(2)] + [original(9, split="test")])
    report = run(Corpus(store), tmp_path, seed=0, corruptions=corruptions)
    assert (report["clips"], report["rejected"]) == (2, 4)
    cut_short: dict[str, Any] = report["corruptions"]["cut"]
    assert [severity["rows"] for severity in cut_short["severities"]] == [2, 0, 0]
    assert [severity["quality"] for severity in cut_short["severities"]][1:] == [None, None]
    assert (cut_short["tau"], cut_short["area"]) == (None, None)


def test_a_clip_without_a_picture_counts_where_it_has_variants(tmp_path: Path) -> None:
    store = write_store(tmp_path / "in", [original(0), original(1) | {"video": None}])
    report = run(Corpus(store), tmp_path, seed=0, corruptions=FEW)
    assert "The quality of the track that was not changed is at most" in markdown(report)
    rows = {
        name: {severity["rows"] for severity in figures["severities"]}
        for name, figures in report["corruptions"].items()
    }
    assert rows == {name: {1 if corruption.track == "video" else 2} for name, corruption in FEW.items()}
    assert report["rejected"] == 0


def test_a_report_of_voices_alone_says_nothing_about_their_other_track(tmp_path: Path) -> None:
    store = write_store(tmp_path / "in", [original(seed) | {"video": None} for seed in range(2)])
    report = run(Corpus(store), tmp_path, seed=0, corruptions={"band loss": FEW["band loss"]})
    assert "track that was not changed" not in markdown(report)


def test_a_folder_that_is_not_empty_and_too_few_clips_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"clips: 4 is too few for three splits; take 8"):
        main(["--out", str(tmp_path / "new"), "--clips", "4"])
    (tmp_path / "there").touch()
    with pytest.raises(UsageError, match=r"--out: .* is not empty, .*; name another"):
        main(["--out", str(tmp_path)])


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--voices", "label.csv", "--clips", "0"], "--clips: got 0, takes 1 or more"),
        (["--voices", "label.csv", "--clips", "-4"], "--clips: got -4, takes 1 or more"),
        (["--data", "store", "--clips", "96"], "--clips: .*; leave it out with --data and --faces"),
        (["--faces", "folder", "--clips", "4"], "--clips: .*; leave it out with --data and --faces"),
    ],
)
def test_a_number_of_clips_that_cannot_be_is_refused_before_anything_is_written(
    options: list[str], told: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=told):
        main(["--out", str(tmp_path / "new"), *options])
    assert not (tmp_path / "new").exists()


def test_a_store_without_training_originals_is_refused(tmp_path: Path) -> None:
    row = original(0)
    rows = [variant(row, "video", 0, video=row["video"]["bytes"]), original(1, split="test")]
    store = write_store(tmp_path / "in", rows)
    with pytest.raises(RunError, match="in: has no original in its training split; name another store"):
        run(Corpus(store), tmp_path, seed=0, corruptions=FEW)
    assert not (tmp_path / "corrupted").exists()

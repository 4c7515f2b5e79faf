"""The embedded corpus: its labels, its splits, its files."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from pipelines import media
from pipelines.corpora import folder
from pipelines.importing import ImportConfig, read_corpus
from pipelines.puppets.__main__ import main
from pipelines.puppets.corpus import Valences, label, make_clip, person, plan, valences


def test_labels_follow_the_three_modalities() -> None:
    rng = np.random.default_rng(0)
    found = np.array([label(Valences(1, 1, 1), rng) for _ in range(200)])
    assert found.max() == 3
    assert found.mean() > 2.8
    mixed = np.mean([label(Valences(text=1, audio=-1, video=0), rng) for _ in range(400)])
    assert mixed == pytest.approx(3 * (0.4 - 0.3), abs=0.05)


def test_labels_are_in_steps_of_a_fifth() -> None:
    rng = np.random.default_rng(1)
    found = np.array([label(valences(rng), rng) for _ in range(300)])
    np.testing.assert_allclose(found / 0.2, np.round(found / 0.2), atol=1e-6)
    assert np.abs(found).max() <= 3


def test_modalities_mostly_agree_and_sometimes_do_not() -> None:
    rng = np.random.default_rng(2)
    spread = np.array([np.ptp(valences(rng)) for _ in range(500)])
    assert 0.2 < np.mean(spread > 0.7) < 0.5


def test_no_speaker_is_in_two_splits() -> None:
    parts = plan(100)
    assert {split: sum(part.split == split for part in parts) for split in ("train", "valid", "test")} == {
        "train": 60,
        "valid": 15,
        "test": 25,
    }
    splits: dict[str, set[str]] = {}
    for part in parts:
        splits.setdefault(part.speaker, set()).add(part.split)
    assert all(len(of_speaker) == 1 for of_speaker in splits.values())
    assert len({part.id for part in parts}) == 100
    assert {part.speaker_pool for part in parts if part.split != "train"} == {"test"}


def test_training_speakers_can_be_made_scarce() -> None:
    """The clips that are left are those that there were."""
    every, scarce = plan(100), plan(100, train_speakers=2)
    assert scarce == [
        part for part in every if part.split != "train" or part.speaker in ("train000", "train001")
    ]
    assert sum(part.split == "train" for part in scarce) == 8
    with pytest.raises(ValueError, match="train_speakers: got 0, expected 1 or more"):
        plan(100, train_speakers=0)


def test_a_clip_is_drawn_from_its_seed_alone() -> None:
    who = person("train001", "train", seed=5)
    clips = [make_clip(who, Valences(0.5, -0.5, 1.0), np.random.default_rng(3)) for _ in range(2)]
    assert clips[0].text == clips[1].text
    np.testing.assert_array_equal(clips[0].frames, clips[1].frames)
    np.testing.assert_array_equal(clips[0].samples, clips[1].samples)
    assert who == person("train001", "train", seed=5)
    assert who != person("train001", "train", seed=6)


def test_a_corpus_on_disk(tmp_path: Path) -> None:
    assert main(["--out", str(tmp_path), "--clips", "8", "--seed", "3", "--workers", "1"]) == 0
    with (tmp_path / "label.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8
    assert {row["split"] for row in rows} == {"train", "valid", "test"}
    for row in rows:
        info = media.probe(tmp_path / row["path"])
        assert info.has_audio
        assert (info.width, info.height) == (64, 64)
        assert 0.5 < info.duration_s < 5
        assert -3 <= float(row["label_video"]) <= 3


def test_puppets_are_known_as_such_however_they_are_imported(tmp_path: Path) -> None:
    written, made = tmp_path / "written", tmp_path / "made"
    main(["--out", str(written), "--clips", "8", "--seed", "3", "--workers", "1"])
    generated = read_corpus(ImportConfig(clips=8), made, seed=3)
    found = folder.read(written / "label.csv")
    assert {clip.corpus for clip in found.clips} == {"puppets"}
    assert [clip.id for clip in found.clips] == [clip.id for clip in generated.clips]
    times = {path: path.stat().st_mtime_ns for path in made.rglob("*")}
    read_corpus(ImportConfig(clips=8), made, seed=3)
    assert {path: path.stat().st_mtime_ns for path in made.rglob("*")} == times
    (tmp_path / "label.csv").write_bytes((written / "label.csv").read_bytes())
    assert {clip.corpus for clip in folder.read(tmp_path / "label.csv").clips} == {"folder"}


def test_too_few_clips_are_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as left:
        main(["--out", str(tmp_path), "--clips", "7"])
    assert left.value.code == 2
    assert "clips: got 7, expected at least 8" in capsys.readouterr().err

"""The embedded corpus: its labels, its splits, its files."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipelines import atomic, importing, media
from pipelines.corpora import folder
from pipelines.errors import UsageError
from pipelines.importing import ImportConfig, read_corpus
from pipelines.puppets.__main__ import main
from pipelines.puppets.corpus import Valences, label, make_clip, person, plan, valences, write_corpus

ARGUMENTS = ["--clips", "8", "--seed", "3", "--workers", "1"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of eight clips, not to be changed."""
    out = tmp_path_factory.mktemp("puppets") / "puppets"
    main(["--out", str(out), *ARGUMENTS])
    return out


@pytest.fixture
def puppets(made: Path, tmp_path: Path) -> Path:
    """A copy of that corpus."""
    return shutil.copytree(made, tmp_path / "puppets")


def files(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def times(out: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in out.rglob("*")}


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


def test_a_corpus_on_disk(made: Path) -> None:
    with (made / "label.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8
    assert {row["split"] for row in rows} == {"train", "valid", "test"}
    for row in rows:
        info = media.probe(made / row["path"])
        assert info.has_audio
        assert (info.width, info.height) == (64, 64)
        assert 0.5 < info.duration_s < 5
        assert -3 <= float(row["label_video"]) <= 3


def test_puppets_are_known_as_such_however_they_are_imported(made: Path, tmp_path: Path) -> None:
    generated = read_corpus(ImportConfig(clips=8), tmp_path / "generated", seed=3)
    found = folder.read(made / "label.csv")
    assert {clip.corpus for clip in found.clips} == {"puppets"}
    assert [clip.id for clip in found.clips] == [clip.id for clip in generated.clips]
    (tmp_path / "label.csv").write_bytes((made / "label.csv").read_bytes())
    assert {clip.corpus for clip in folder.read(tmp_path / "label.csv").clips} == {"folder"}


def test_a_whole_corpus_is_not_made_again(puppets: Path) -> None:
    before = times(puppets)
    read_corpus(ImportConfig(clips=8), puppets, seed=3)
    main(["--out", str(puppets), *ARGUMENTS])
    assert times(puppets) == before


@pytest.mark.parametrize("held", ["label.csv", "clips/mine.mkv"])
def test_a_corpus_of_somebody_elses_is_not_replaced(held: str, tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    (tmp_path / held).write_text("mine")
    refusal = rf"^--out: {tmp_path} holds {held}, which is none of these puppets .*choose another"
    with pytest.raises(UsageError, match=refusal):
        main(["--out", str(tmp_path), *ARGUMENTS])
    with pytest.raises(UsageError, match=refusal):
        read_corpus(ImportConfig(clips=8), tmp_path, seed=3)
    assert files(tmp_path) == {held: b"mine"}


@pytest.mark.parametrize(
    ("changed", "wanted"),
    [
        (["--clips", "9"], "clips 9, seed 3"),
        (["--seed", "4"], "clips 8, seed 4"),
        (["--train-speakers", "1"], "clips 8, seed 3, train_speakers 1"),
    ],
)
def test_puppets_of_other_arguments_are_not_replaced(changed: list[str], wanted: str, puppets: Path) -> None:
    before = files(puppets)
    refusal = f"^--out: {puppets} holds puppets of clips 8, seed 3, not of {wanted}, .*choose another folder"
    with pytest.raises(UsageError, match=refusal):
        main(["--out", str(puppets), *ARGUMENTS, *changed])
    assert files(puppets) == before


def test_an_import_does_not_replace_the_puppets_beside_its_store(puppets: Path) -> None:
    before = files(puppets)
    with pytest.raises(UsageError, match=r"puppets of clips 8, seed 3, not of .* `puppets` beside its --out"):
        importing.main(["--corpus.clips", "9", "--seed", "3", "--out", str(puppets.with_name("originals"))])
    assert files(puppets) == before


def cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def edited(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"3", b"4"))


CLIP = "clips/train000_00000.mkv"


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("label.csv", cut), ("label.csv", emptied), ("label.csv", edited), ("label.csv", Path.unlink),
        ("puppets.json", cut), ("puppets.json", emptied), ("puppets.json", edited),
        ("puppets.json", Path.unlink),
        (CLIP, cut), (CLIP, emptied), (CLIP, Path.unlink),
    ],
)  # fmt: skip
def test_a_damaged_corpus_is_made_again(
    name: str,
    damage: Callable[[Path], None],
    made: Path,
    puppets: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    damage(puppets / name)
    assert len(read_corpus(ImportConfig(clips=8), puppets, seed=3).clips) == 8
    assert files(puppets) == files(made)
    (record,) = caplog.records
    assert str(puppets) in record.getMessage()
    assert "made again" in record.getMessage()


@pytest.mark.parametrize("written", [0, 5])
def test_a_killed_command_goes_on(
    written: int, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it leaves vouches for nothing, and is known as its own."""
    left = iter(range(written))
    mux = media.mux

    def killed(*arguments: object) -> bytes:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return mux(*arguments)

    out = tmp_path / "puppets"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(media, "mux", killed)
        main(["--out", str(out), *ARGUMENTS])
    with pytest.raises(UsageError, match="holds puppets of clips 8, seed 3, not of"):
        main(["--out", str(out), "--clips", "9"])
    main(["--out", str(out), *ARGUMENTS])
    assert files(out) == files(made)


def test_the_record_is_written_when_all_it_vouches_for_is_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_disk: list[Path] = []
    publish = atomic.publish

    def published(temporary: Path, path: Path) -> None:
        publish(temporary, path)
        on_disk.append(path)

    monkeypatch.setattr(atomic, "publish", published)
    write_corpus(tmp_path, clips=8, seed=3, workers=1)
    clips = {path.name for path in on_disk[1:-2]}
    assert clips == {path.name for path in (tmp_path / "clips").iterdir()}
    assert [path.name for path in (on_disk[0], *on_disk[-2:])] == [
        "puppets.json",
        "label.csv",
        "puppets.json",
    ]


def test_a_corpus_of_an_earlier_version_is_read_as_before(made: Path, puppets: Path) -> None:
    (puppets / "puppets.json").write_text(json.dumps({"clips": 8, "seed": 3}))
    before = times(puppets)
    found = read_corpus(ImportConfig(clips=8), puppets, seed=3)
    assert {clip.corpus for clip in found.clips} == {"puppets"}
    assert times(puppets) == before
    cut(puppets / "label.csv")
    read_corpus(ImportConfig(clips=8), puppets, seed=3)
    assert files(puppets) == files(made)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--clips", "7"], "clips: got 7, expected at least 8"),
        (["--workers", "0"], "workers: got 0, expected 1 or more"),
    ],
)
def test_numbers_that_are_too_small_are_refused(options: list[str], told: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"^{told}"):
        main(["--out", str(tmp_path / "puppets"), *ARGUMENTS, *options])
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("out", "told"),
    [
        ("file", "is a file; takes a folder, name another"),
        ("file/below", "is a file; takes a folder, name another"),
        ("/proc/none", ""),
        ("n" * 300, "File name too long"),
    ],
)
def test_bad_places_are_one_line(out: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    command = [sys.executable, "-m", "pipelines.puppets", "--out", str(tmp_path / out), *ARGUMENTS]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    assert line.startswith("error: ")
    assert told in line

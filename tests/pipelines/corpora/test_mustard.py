"""MUStARD from its real annotations and folds."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections import Counter
from pathlib import Path

import pytest

from pipelines.corpora import mustard
from pipelines.corpora.table import CorpusError
from pipelines.errors import RunError, UsageError
from pipelines.untrusted.pickles import PickleError


@pytest.fixture
def corpus(shared: Path, tmp_path: Path) -> Path:
    """The annotations and an empty clip folder, where the official archive unpacks it."""
    for name in ("sarcasm_data.json", "split_indices.p"):
        (tmp_path / name).write_bytes((shared / "labels/mustard" / name).read_bytes())
    (tmp_path / "mmsd_raw_data/utterances_final").mkdir(parents=True)
    return tmp_path


def test_each_clip_is_tested_in_one_fold(corpus: Path) -> None:
    folds = [mustard.read(corpus, fold=fold) for fold in range(5)]
    tested = Counter(clip.id for fold in folds for clip in fold.clips if clip.split == "test")
    assert len(tested) == 690
    assert set(tested.values()) == {1}
    assert all(fold.crossing for fold in folds)


def test_the_speaker_independent_split_tests_on_friends(corpus: Path) -> None:
    clips = mustard.read(corpus, speaker_independent=True)
    assert Counter(clip.split for clip in clips.clips) == {"train": 334, "test": 356}
    assert {clip.group.split("/")[0] for clip in clips.clips if clip.split == "test"} == {"FRIENDS"}
    assert not clips.crossing


def test_entries_become_clips(corpus: Path) -> None:
    path = corpus / "mmsd_raw_data/utterances_final/1_60.mp4"
    path.write_bytes(b"")
    clips = mustard.read(corpus)
    first = clips.clips[0]
    assert (first.id, first.path, first.group) == ("mustard/BBT/1_60", path, "BBT/SHELDON")
    assert (first.text, first.label) == ("It's just a privilege to watch your mind at work.", 1.0)
    assert len(clips.missing) == 689
    assert Counter(clip.label for clip in clips.clips) == {0.0: 345, 1.0: 345}


def test_tables_may_lie_in_the_repositorys_folder(corpus: Path) -> None:
    (corpus / "data").mkdir()
    for name in ("sarcasm_data.json", "split_indices.p"):
        shutil.move(corpus / name, corpus / "data" / name)
    assert len(mustard.read(corpus).clips) == 690


def test_a_pickle_that_names_a_function_is_refused_unrun(corpus: Path, tmp_path: Path) -> None:
    class Attack:
        def __reduce__(self) -> tuple:
            return Path.touch, (tmp_path / "harm",)

    (corpus / "split_indices.p").write_bytes(pickle.dumps([(Attack(), [1])]))
    with pytest.raises(PickleError, match=r"split_indices\.p: asks for pathlib\.\S*, which is refused"):
        mustard.read(corpus)
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    ("folds", "message"),
    [
        (b"no pickle", "not a whole pickle"),
        (pickle.dumps([1, 2]), "holds no fold 0"),
        (pickle.dumps([([0, 1], [1, 2])]), "has 2 and 2 indices, which are not the 690 entries"),
    ],
)
def test_wrong_folds_are_refused(corpus: Path, folds: bytes, message: str) -> None:
    (corpus / "split_indices.p").write_bytes(folds)
    with pytest.raises(RunError, match=message):
        mustard.read(corpus)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda entry: entry.pop("sarcasm"), "sarcasm is missing: line 1_60"),
        (lambda entry: entry.update(sarcasm=None), "sarcasm is missing: line 1_60"),
        (lambda entry: entry.clear(), "there is no media file, and utterance is missing: line 1_60"),
        (lambda entry: entry.update(utterance=" "), "utterance is empty: line 1_60"),
        (lambda entry: entry.update(sarcasm="maybe"), r"sarcasm is not a number: line 1_60 \('maybe'\)"),
    ],
)
def test_wrong_entries_are_named(corpus: Path, change, message: str) -> None:
    entries = json.loads((corpus / "sarcasm_data.json").read_text())
    change(entries["1_60"])
    (corpus / "sarcasm_data.json").write_text(json.dumps(entries))
    with pytest.raises(CorpusError, match=message):
        mustard.read(corpus, strict=True)
    found = mustard.read(corpus)
    assert [bad.id for bad in found.bad_lines] == ["mustard/sarcasm_data.json:1_60"]
    assert len(found.clips) == 689


def test_entries_given_twice_are_refused(corpus: Path) -> None:
    entry = '{"utterance": "a", "speaker": "B", "show": "C", "sarcasm": true}'
    (corpus / "sarcasm_data.json").write_text(f'{{"1_1": {entry}, "1_1": {entry}}}')
    with pytest.raises(CorpusError, match="stands in the table already: line 1_1"):
        mustard.read(corpus, speaker_independent=True, strict=True)
    found = mustard.read(corpus, speaker_independent=True)
    assert (len(found.clips), len(found.bad_lines)) == (1, 1)


def test_a_bad_entry_does_not_move_the_others_into_another_split(corpus: Path) -> None:
    before = {clip.id: clip.split for clip in mustard.read(corpus).clips}
    entries = json.loads((corpus / "sarcasm_data.json").read_text())
    entries["1_60"] = "no mapping"
    (corpus / "sarcasm_data.json").write_text(json.dumps(entries))
    after = {clip.id: clip.split for clip in mustard.read(corpus).clips}
    assert after == {name: split for name, split in before.items() if not name.endswith("/1_60")}


def test_there_are_five_folds(corpus: Path) -> None:
    with pytest.raises(UsageError, match=r"corpus\.fold: 5 is no fold of MUStARD, 0 to 4"):
        mustard.read(corpus, fold=5)


def test_missing_parts_are_named(corpus: Path) -> None:
    shutil.rmtree(corpus / "mmsd_raw_data")
    with pytest.raises(CorpusError, match="has no folder utterances_final or"):
        mustard.read(corpus)
    (corpus / "split_indices.p").unlink()
    with pytest.raises(CorpusError, match=r"has no split_indices\.p or data/split_indices\.p"):
        mustard.read(corpus)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[" * 100_000, r"is no JSON in UTF-8 \(it is nested too deeply"),
        ('{"1": ' + "9" * 5000 + "}", r"is no JSON in UTF-8 \(Exceeds the limit"),
        ("7", "holds no mapping of ids to entries"),
        ("", "is no JSON in UTF-8"),
    ],
)
def test_annotations_that_are_none_are_refused(corpus: Path, text: str, told: str) -> None:
    (corpus / "sarcasm_data.json").write_text(text)
    with pytest.raises(CorpusError, match=rf"sarcasm_data\.json: {told}"):
        mustard.read(corpus)


@pytest.mark.parametrize("name", ["sarcasm_data.json", "split_indices.p"])
def test_the_tables_are_regular_files(corpus: Path, name: str) -> None:
    (corpus / name).unlink()
    os.mkfifo(corpus / name)
    with pytest.raises(CorpusError, match=f"{name}: is a pipe, wanted a file"):
        mustard.read(corpus)

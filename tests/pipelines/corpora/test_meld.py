"""MELD from its real tables."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest

from pipelines.corpora import meld
from pipelines.corpora.table import CorpusError

HEADER = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID\n"


def put(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    return path


def test_clips_are_looked_for_in_the_folder_of_their_split(shared: Path, tmp_path: Path) -> None:
    for name in ("dev", "test"):
        shutil.copy(shared / f"labels/meld/{name}_sent_emo.csv", tmp_path)
    put(tmp_path / "train/train_sent_emo.csv")
    shutil.copy(shared / "labels/meld/train_sent_emo.csv", tmp_path / "train/train_sent_emo.csv")
    train = put(tmp_path / "train/train_splits/dia0_utt0.mp4")
    valid = put(tmp_path / "dev/dev_splits_complete/dia0_utt0.mp4")
    test = put(tmp_path / "test/output_repeated_splits_test/dia0_utt0.mp4")
    put(tmp_path / "test/output_repeated_splits_test/final_videos_testdia0_utt0.mp4")
    put(tmp_path / "test/output_repeated_splits_test/._dia0_utt1.mp4")
    corpus = meld.read(tmp_path)
    assert Counter(clip.split for clip in corpus.clips) == {"train": 9989, "valid": 1109, "test": 2610}
    found = {clip.split: clip for clip in corpus.clips if clip.path}
    assert {split: clip.path for split, clip in found.items()} == {
        "train": train,
        "valid": valid,
        "test": test,
    }
    assert len(corpus.missing) == 13_708 - 3
    assert found["test"].id == "meld/test_dia0/utt0"
    assert (found["test"].group, found["test"].label, found["test"].scale) == ("Mark", 1.0, "sims")
    assert "Chandler" in corpus.crossing
    assert corpus.official_split


def test_one_table_takes_clips_from_any_folder(tmp_path: Path) -> None:
    (tmp_path / "dev_sent_emo.csv").write_text(HEADER + "1,Oh.,Joey,joy,positive,3,4\n")
    path = put(tmp_path / "clips/dia3_utt4.mkv")
    assert [clip.path for clip in meld.read(tmp_path).clips] == [path]
    (tmp_path / "test_sent_emo.csv").write_text(HEADER + "1,Oh.,Joey,joy,positive,3,4\n")
    assert [clip.path for clip in meld.read(tmp_path).clips] == [None, None]


def test_faults_are_named_with_their_table(tmp_path: Path) -> None:
    (tmp_path / "test_sent_emo.csv").write_text(
        HEADER
        + "1,Oh.,Joey,joy,good,0,0\n2,,Joey,joy,neutral,0,x\n3,Oh.,Joey,joy,neutral,0,0\n"
        + "4,Oh.,Joey,joy,neutral,0,0\n"
    )
    corpus = meld.read(tmp_path)
    assert [clip.id for clip in corpus.clips] == ["meld/test_dia0/utt0"]
    assert [bad.id for bad in corpus.bad_lines] == [f"meld/test_sent_emo.csv:{line}" for line in (2, 3, 5)]
    with pytest.raises(CorpusError) as caught:
        meld.read(tmp_path, strict=True)
    for told in (
        "test_sent_emo.csv: the table is malformed",
        "Sentiment is none of negative, neutral, positive: line 2 ('good')",
        "Utterance_ID is no number: line 3 ('x')",
        "there is no media file, and Utterance is empty: line 3",
        "line 5 (meld/test_dia0/utt0, line 4)",
    ):
        assert told in str(caught.value)


def test_a_folder_without_tables_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"has no table train_sent_emo\.csv"):
        meld.read(tmp_path)


def test_marks_of_windows_1252_are_what_they_are(shared: Path) -> None:
    """As MELD's tables were at first: U+0092 for an apostrophe, U+0085 for an ellipsis."""
    corpus = meld.read(shared / "cases" / "meld_c1")
    texts = [clip.text for clip in corpus.clips]
    assert any("it’s fine…" in text for text in texts), texts
    assert not any(0x80 <= ord(character) < 0xA0 for text in texts for character in text)

"""The corpora: a folder of faces, a table of voices; and what is said where they are not there."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from benchmarks.scorer.corpora import faces, voices
from pipelines.errors import UsageError
from pipelines.media import mux, read_audio
from pipelines.store import StoreReader
from tests.benchmarks.scorer import tracks

MOODS = ("angry", "glad", "sad")


@pytest.fixture(scope="module")
def clip() -> bytes:
    own = tracks.own()
    return mux(own["video"][:15], 12.5, own["audio"][:19_200])


def write(table: Path, lines: list[dict[str, object]]) -> Path:
    table.parent.mkdir(parents=True, exist_ok=True)
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [*lines[0]])
        writer.writeheader()
        writer.writerows(lines)
    return table


def test_faces_become_training_clips_whatever_their_split(tmp_path: Path, clip: bytes) -> None:
    lines: list[dict[str, object]] = [
        {"video_id": f"speaker{at}", "clip_id": "first", "text": "some words", "label": 0.5, "mode": mode}
        for at, mode in enumerate(("train", "valid", "test"))
    ]
    table = write(tmp_path / "label.csv", lines)
    for line in lines:
        (tmp_path / f"Raw/{line['video_id']}").mkdir(parents=True)
        (tmp_path / f"Raw/{line['video_id']}/first.mkv").write_bytes(clip)
    corpus = faces(tmp_path, tmp_path / "out")
    rows = [*StoreReader(corpus.store).rows()]
    assert [(row["split"], row["group"]) for row in rows] == [("train", f"speaker{at}") for at in range(3)]
    assert all(row["video"] and row["audio"] for row in rows)
    (tmp_path / "Raw/speaker1/first.mkv").unlink()
    with pytest.raises(UsageError, match=r"found no Raw/speaker1/first\.\*, which label\.csv names; add"):
        faces(tmp_path, tmp_path / "other")
    table.unlink()
    with pytest.raises(UsageError, match=r"label\.csv: cannot be read \(No such file"):
        faces(tmp_path, tmp_path / "other")


def test_voices_are_takes_of_one_sentence_of_which_each_has_both_partners(
    tmp_path: Path, clip: bytes
) -> None:
    (tmp_path / "clip.mkv").write_bytes(clip)
    lines: list[dict[str, object]] = [
        {
            "path": "clip.mkv", "text": text, "label": MOODS.index(mood), "split": "test",
            "group": f"speaker{speaker}", "id": f"{speaker}-{mood}-{take}-{len(text)}", "emotion": mood,
        }
        for text in ("the rarer one", "the common one")
        for speaker in range(4)
        for mood in MOODS
        for take in range(1 + (text == "the common one"))
    ]  # fmt: skip
    table = write(tmp_path / "label.csv", lines)
    corpus = voices(table, tmp_path / "out", clips=9)
    rows = [*StoreReader(corpus.store).rows()]
    assert {(row["text"], row["split"], row["video"]) for row in rows} == {("the common one", "train", None)}
    assert Counter(row["group"] for row in rows) == {f"speaker{at}": 3 for at in range(3)}
    assert corpus.moods is not None
    assert Counter(corpus.moods[row["id"]] for row in rows) == dict.fromkeys(MOODS, 3)
    assert np.allclose(read_audio(rows[0]["audio"]["bytes"]), tracks.own()["audio"][:19_200], atol=1e-4)
    assert len(StoreReader(voices(table, tmp_path / "few", clips=4).store).table) == 4
    for line in lines:
        del line["emotion"]
    with pytest.raises(UsageError, match="lacks the columns emotion"):
        voices(write(tmp_path / "without.csv", lines), tmp_path / "none", clips=4)


def test_voices_whose_ids_are_paths_are_taken_and_those_that_cannot_be_read_are_named(
    tmp_path: Path, clip: bytes
) -> None:
    (tmp_path / "clip.mkv").write_bytes(clip)
    line: dict[str, object] = {
        "path": "clip.mkv", "text": "words", "label": 1, "group": "one", "id": "tapes/first",
        "emotion": "glad",
    }  # fmt: skip
    corpus = voices(write(tmp_path / "label.csv", [line]), tmp_path / "out", clips=4)
    assert [row["id"] for row in StoreReader(corpus.store).rows()] == ["folder/tapes/first"]
    assert corpus.moods == {"folder/tapes/first": "glad"}
    lost = write(tmp_path / "lost.csv", [line, line | {"group": "two", "path": "lost.wav"}])
    with pytest.raises(UsageError, match=r"lost\.wav: cannot be read \(No such .*lost\.csv names it: mend"):
        voices(lost, tmp_path / "other", clips=4)
    latin = tmp_path / "latin.csv"
    latin.write_bytes((tmp_path / "label.csv").read_bytes().replace(b"words", b"w\xf6rter"))
    with pytest.raises(UsageError, match=r"latin\.csv: is not UTF-8 \(byte \d+\); save the table as UTF-8"):
        voices(latin, tmp_path / "other", clips=4)
    short = tmp_path / "short.csv"
    short.write_text("id,text,label,group,emotion,path\n1,words,1,one\n", encoding="utf-8")
    with pytest.raises(UsageError, match=r"is a folder, wanted a file; .*short\.csv names it"):
        voices(short, tmp_path / "other", clips=4)
    assert not (tmp_path / "other").exists()

"""A plain folder with a CSV."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pipelines.corpora import folder
from pipelines.corpora.table import CorpusError


def write(path: Path, *lines: str, header: str = "path,text,label,split,group") -> Path:
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path


def test_paths_are_relative_to_the_table(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips/007.mp4").write_bytes(b"")
    table = write(tmp_path / "t.csv", "clips/007.mp4,hello,-3,train,ann", "clips/8.mp4,bye,1.5,dev,bob")
    corpus = folder.read(table)
    first, second = corpus.clips
    assert (first.id, first.path) == ("folder/clips/007", tmp_path / "clips/007.mp4")
    assert (second.path, second.split, second.scale, second.language) == (None, "valid", "mosi", None)
    assert corpus.missing == ("folder/clips/8",)


def test_optional_columns_are_taken(tmp_path: Path) -> None:
    header = "path,text,label,split,group,id,label_text,label_audio,label_video,language,scale"
    table = write(tmp_path / "t.csv", "a.mp4,hello,0.5,train,ann,-01,1,-1,,de,sims", header=header)
    clip = folder.read(table, name="mine").clips[0]
    assert (clip.id, clip.corpus) == ("mine/-01", "mine")
    assert (clip.label_text, clip.label_audio, clip.label_video) == (1.0, -1.0, None)
    assert (clip.language, clip.scale) == ("de", "sims")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["a.mp4,hi,0,train,ann", "b.mp4,hi,0,test,ann"], r"1 of them: ann \(test, train\)"),
        (["a.mp4,hi,0,train,ann", "a.mkv,hi,0,train,ann"], "already: line 3 .folder/a, line 2"),
        (["a.mp4,hi,0,train,"], "group is empty: line 2"),
        ([",,0,train,ann"], "there is no media file, and text is empty: line 2"),
        (["a.mp4,hi,3.5,train,ann"], r"outside the scale mosi \[-3, 3\]: line 2"),
    ],
)
def test_faults_are_refused_by_a_strict_import(tmp_path: Path, lines: list[str], message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        folder.read(write(tmp_path / "t.csv", *lines), strict=True)


WITH_ID = "path,text,label,split,group,id"


def test_no_path_is_a_row_of_text_alone_and_a_wrong_one_a_missing_clip(tmp_path: Path) -> None:
    corpus = folder.read(
        write(tmp_path / "t.csv", ",hi,0,train,ann,1", "gone.mp4,hi,0,train,ann,2", header=WITH_ID)
    )
    alone, gone = corpus.clips
    assert (alone.id, alone.path, alone.media_name, alone.text) == ("folder/1", None, None, "hi")
    assert (gone.path, gone.media_name) == (None, "gone.mp4")
    assert corpus.missing == ("folder/2",)
    assert corpus.bad_lines == []


def test_a_table_without_paths_is_of_text_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    table = write(tmp_path / "t.csv", "hi,0,train,ann,1", header="text,label,split,group,id")
    assert [(clip.id, clip.media_name) for clip in folder.read(table).clips] == [("folder/1", None)]
    assert "has no column path, so its 1 rows are of text only" in caplog.text


def test_a_row_of_text_alone_has_an_id_that_does_not_depend_on_its_place(tmp_path: Path) -> None:
    lines = [",hi,0,train,ann", ",hi,0,train,bob", ",ho,1,train,ann"]
    first, second = (
        {clip.id: (clip.text, clip.group) for clip in folder.read(write(tmp_path / "t.csv", *given)).clips}
        for given in (lines, lines[::-1])
    )
    assert first == second
    assert len(first) == 3
    assert all(re.fullmatch("folder/text-[0-9a-f]{12}", row_id) for row_id in first)


def test_bad_lines_cost_themselves_alone(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"")
    lines = [
        "a.mp4,,0,train,ann,",  # no transcript beside media is no fault
        ",,0,train,ann,1",
        "b.mp4,hi,,train,ann,",
        ",hi,7,tain,ann,2",
        "a.mp4,hi",
        ",hi,0,train,,3",
        ",hi,1,train,ann,2",  # the bad line above does not take its id away
        ",ho,1,train,ann,2",
        ",ho,1,train,ann,2#classic-0",
        ",ho,1,train,ann,2#1",
    ]
    corpus = folder.read(write(tmp_path / "t.csv", *lines, header=WITH_ID))
    assert [(clip.id, clip.text) for clip in corpus.clips] == [
        ("folder/a", ""), ("folder/2", "hi"), ("folder/2#1", "ho"),
    ]  # fmt: skip
    assert {bad.id: bad.reasons for bad in corpus.bad_lines} == {
        "folder/t.csv:3": "t.csv, line 3: there is no media file, and text is empty",
        "folder/t.csv:4": "t.csv, line 4: label is not a number ('')",
        "folder/t.csv:5": "t.csv, line 5: label is outside the scale mosi [-3, 3] (7);"
        " split is no split (train, valid or test) ('tain')",
        "folder/t.csv:6": "t.csv, line 6: has not 6 values as the header (2 values)",
        "folder/t.csv:7": "t.csv, line 7: group is empty",
        "folder/t.csv:9": "t.csv, line 9: the clip stands in the table already (folder/2, line 8)",
        "folder/t.csv:10": "t.csv, line 10: the clip is named as a variant is ('folder/2#classic-0')",
    }


def test_a_table_with_no_good_line_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        CorpusError, match=r"the table is malformed and nothing was imported; .*: line 2 .*, 3"
    ):
        folder.read(write(tmp_path / "t.csv", "a.mp4,hi,7,train,ann", "b.mp4,hi,8,train,ann"))


def test_unknown_scales_and_lacking_columns_are_refused(tmp_path: Path) -> None:
    table = write(tmp_path / "t.csv", "a,hi,0,train,ann,likert", header="path,text,label,split,group,scale")
    with pytest.raises(CorpusError, match=r"scale is none of mosi, sims, binary.*: line 2 \('likert'\)"):
        folder.read(table)
    with pytest.raises(CorpusError, match="the column group is missing"):
        folder.read(write(tmp_path / "t.csv", "a,hi,0,train", header="path,text,label,split"))


def test_a_folder_in_place_of_its_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="is a folder; name the CSV with path, text, label, split, group"):
        folder.read(tmp_path)

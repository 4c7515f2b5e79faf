"""A plain folder with a CSV."""

from __future__ import annotations

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
        ([",hi,0,train,ann"], "path is empty: line 2"),
        (["a.mp4,hi,3.5,train,ann"], r"outside the scale mosi \[-3, 3\]: line 2"),
    ],
)
def test_faults_are_refused(tmp_path: Path, lines: list[str], message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        folder.read(write(tmp_path / "t.csv", *lines))


def test_unknown_scales_and_lacking_columns_are_refused(tmp_path: Path) -> None:
    table = write(tmp_path / "t.csv", "a,hi,0,train,ann,likert", header="path,text,label,split,group,scale")
    with pytest.raises(CorpusError, match=r"scale is none of mosi, sims, binary.*: line 2 \('likert'\)"):
        folder.read(table)
    with pytest.raises(CorpusError, match="the column group is missing"):
        folder.read(write(tmp_path / "t.csv", "a,hi,0,train", header="path,text,label,split"))


def test_a_folder_in_place_of_its_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="is a folder; name the CSV with path, text, label, split, group"):
        folder.read(tmp_path)

"""MOSI, MOSEI and CH-SIMS as MMSA lays them out, from the real tables."""

from __future__ import annotations

import csv
import shutil
from collections import Counter
from pathlib import Path

import pytest

from pipelines.corpora import mmsa
from pipelines.corpora.table import CorpusError

HEADER = "video_id,clip_id,text,label,label_T,label_A,label_V,annotation,mode\n"


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A folder with an empty `Raw`."""
    (tmp_path / "Raw").mkdir()
    return tmp_path


def put(corpus: Path, video: str, file: str) -> Path:
    path = corpus / "Raw" / video / file
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"")
    return path


def test_a_corpus_on_disk(shared: Path) -> None:
    corpus = mmsa.mosi(shared / "media/grid_corpus")
    assert Counter(clip.split for clip in corpus.clips) == {"train": 8, "valid": 1, "test": 2}
    assert corpus.missing == ()
    assert corpus.crossing == {}
    clip = corpus.clips[2]
    assert (clip.id, clip.group) == ("mosi/speaker_02/id2_swwp2s", "speaker_02")
    assert clip.path == shared / "media/grid_corpus/Raw/speaker_02/id2_swwp2s.mpg"
    assert (clip.text, clip.label, clip.label_audio) == ("set white with p two soon", 0.0, None)


def test_the_table_of_mosi(shared: Path, corpus: Path) -> None:
    shutil.copy(shared / "labels/mosi/label.csv", corpus)
    clips = mmsa.mosi(corpus)
    assert Counter(clip.split for clip in clips.clips) == {"train": 1281, "valid": 229, "test": 685}
    assert len(clips.missing) == 2195
    assert not clips.crossing
    assert {clip.scale for clip in clips.clips} == {"mosi"}


def test_ids_of_mosei_keep_their_dashes(shared: Path, corpus: Path) -> None:
    shutil.copy(shared / "labels/mosei/label_full_EXCERPT.csv", corpus / "label.csv")
    path = put(corpus, "-3g5yACwYnA", "82_7645.mp4")
    clips = mmsa.mosei(corpus)
    assert clips.clips[0].id == "mosei/-3g5yACwYnA/82_7645"
    assert clips.clips[0].path == path
    assert len(clips.missing) == 34


def test_a_malformed_table_is_refused_with_lines_and_reasons(shared: Path, corpus: Path) -> None:
    shutil.copy(shared / "labels/mosei/label_MALFORMED_EXCERPT.csv", corpus / "label.csv")
    with pytest.raises(CorpusError) as caught:
        mmsa.mosei(corpus)
    message = str(caught.value)
    assert "text is empty: line 2, 3, 4, 5, 6 and 23 more" in message
    assert "split at the wrong '_': line 10 ('-I' and 'e4mIh0yE')" in message


def test_a_table_without_a_transcript_is_refused_even_where_clips_are_there(
    shared: Path, corpus: Path
) -> None:
    table = shared / "labels/mosei/label_MALFORMED_EXCERPT.csv"
    with table.open() as file:
        for row in csv.DictReader(file):
            put(corpus, row["video_id"], f"{row['clip_id']}.mp4")
    shutil.copy(table, corpus / "label.csv")
    with pytest.raises(CorpusError, match="text is empty in all 19 lines that can be used; mosei is"):
        mmsa.mosei(corpus)


def test_one_empty_transcript_beside_its_clip_is_kept(corpus: Path) -> None:
    (corpus / "label.csv").write_text(HEADER + "v,1,,0,,,,,train\nv,2,hello,0,,,,,train\nv,3,,0,,,,,train\n")
    put(corpus, "v", "1.mp4")
    found = mmsa.mosi(corpus)
    assert [(clip.id, clip.text) for clip in found.clips] == [("mosi/v/1", ""), ("mosi/v/2", "hello")]
    assert found.missing == ("mosi/v/2",)
    (bad,) = found.bad_lines
    assert bad.reasons == "label.csv, line 4: there is no media file, and text is empty"


def test_wrongly_split_ids_are_rejected_for_themselves(shared: Path, corpus: Path) -> None:
    with (shared / "labels/mosei/label_MALFORMED_EXCERPT.csv").open() as file:
        rows = [row | {"text": "words"} for row in csv.DictReader(file)]
    with (corpus / "label.csv").open("w") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    found = mmsa.mosei(corpus)
    assert (len(found.clips), len(found.bad_lines)) == (19, 9)
    assert all("split at the wrong '_'" in bad.reasons for bad in found.bad_lines)
    with pytest.raises(CorpusError, match=r"split at the wrong '_'.* and 4 more$"):
        mmsa.mosei(corpus, strict=True)


def test_unimodal_labels_of_sims(corpus: Path) -> None:
    (corpus / "label.csv").write_text(
        HEADER
        + "video_0001,0001,我不想嫁给李茶,-0.8,-1.0,-0.6,0.2,Negative,train\n"
        + "video_0001,0002,你这是嫁入豪门啊！,0.6,,,,Positive,test\n"
    )
    path = put(corpus, "video_0001", "0001.mp4")
    clips = mmsa.sims(corpus)
    first, second = clips.clips
    assert (first.id, first.path) == ("sims/video_0001/0001", path)
    assert (first.label, first.label_text, first.label_audio, first.label_video) == (-0.8, -1.0, -0.6, 0.2)
    assert (second.label_text, second.label_audio, second.label_video) == (None, None, None)
    assert (first.language, first.scale) == ("zh", "sims")
    assert clips.crossing == {"video_0001": ("test", "train")}  # as its official split does


def test_the_official_split_of_sims_cuts_through_videos(shared: Path, corpus: Path) -> None:
    value = {"Negative": -1, "Neutral": 0, "Positive": 1}
    with (shared / "labels/simsv2/meta_text_class_DERIVED.csv").open(encoding="utf-8") as file:
        rows = [row | {"label": value[row["annotation"]]} for row in csv.DictReader(file)]
    with (corpus / "label.csv").open("w", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    clips = mmsa.sims(corpus)
    assert len(clips.clips) == 3369
    assert len(clips.crossing) == 119
    with pytest.raises(CorpusError, match="groups in more than one split, 119 of them"):
        mmsa.mosi(corpus)


def test_the_clip_is_the_video_of_its_name(corpus: Path) -> None:
    (corpus / "label.csv").write_text(HEADER + "v,1,hello,0,,,,,train\nv,2.5,hello,0,,,,,train\n")
    wanted = put(corpus, "v", "1.mp4")
    for name in ("1.wav", "11.mp4", "._1.mp4", "1.txt"):
        put(corpus, "v", name)
    dotted = put(corpus, "v", "2.5.MP4")
    assert [clip.path for clip in mmsa.mosi(corpus).clips] == [wanted, dotted]


def test_faults_of_lines_are_named(corpus: Path) -> None:
    (corpus / "label.csv").write_text(
        HEADER
        + "v,1,hello,4.5,,,,,train\nv,2,hello,zero,,,,,train\nv,2,hello,0,,,,,tain\n"
        + "v,3,hello,0,,,,,train\nv,3,hello,0,,,,,train\n"
    )
    with pytest.raises(CorpusError) as caught:
        mmsa.mosi(corpus, strict=True)
    for told in (
        "[-3, 3]: line 2 (4.5)",
        "not a number: line 3 ('zero')",
        "line 4 ('tain')",
        "line 6 (mosi/v/3, line 5",
    ):
        assert told in str(caught.value)


def test_a_folder_without_clips_is_named(tmp_path: Path) -> None:
    (tmp_path / "label.csv").write_text(HEADER + "v,1,hello,0,,,,,train\n")
    with pytest.raises(CorpusError, match="has no folder Raw"):
        mmsa.mosi(tmp_path)
    with pytest.raises(CorpusError, match=r"nowhere/label\.csv: cannot be read"):
        mmsa.mosi(tmp_path / "nowhere")


def test_a_clip_is_rather_a_file_than_a_folder_of_its_name(tmp_path: Path) -> None:
    (tmp_path / "label.csv").write_text(HEADER + "v,1,hello,0,,,,,train\nv,2,hello,0,,,,,train\n")
    for name in ("1.mp4", "2.mp4"):
        (tmp_path / "Raw/v" / name).mkdir(parents=True)
    (tmp_path / "Raw/v/1.wmv").write_bytes(b"")
    paths = [clip.path for clip in mmsa.mosi(tmp_path).clips]
    assert paths == [tmp_path / "Raw/v/1.wmv", tmp_path / "Raw/v/2.mp4"]

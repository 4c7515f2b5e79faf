"""The import: every file has its documented outcome, the counts add up, and nothing is done twice."""

from __future__ import annotations

import csv
import gc
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest

from pipelines import importing, media
from pipelines.__main__ import main as daq_msa
from pipelines.corpora.table import CorpusError
from pipelines.decoding.isolation import _Child
from pipelines.errors import UsageError
from pipelines.importing import main
from pipelines.row import Row, features
from pipelines.runner import Stage, StageFailed
from pipelines.store import DamagedStore, StoreReader
from tests import processes
from tests.pipelines.clips import numbered, numbers, tone, write_clip


def table(folder: Path, names: list[str]) -> Path:
    """A CSV of clips, each a group of its own."""
    path = folder / "label.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "text", "label", "split", "group"])
        writer.writerows([name, f"says {name}", 0.5, "train", name] for name in names)
    return path


def import_folder(src: Path, out: Path, *options: str) -> dict[str, Row]:
    """Import by the command; rows by their file's name without ending."""
    main(["--corpus.name", "folder", "--corpus.path", str(src), "--out", str(out), *options])
    return {row["id"].removeprefix("folder/"): row for row in StoreReader(out).rows()}


def failures(out: Path) -> dict[str, dict[str, Any]]:
    lines = (out / "failures.jsonl").read_text().splitlines()
    return {record["id"].removeprefix("folder/"): record for record in map(json.loads, lines)}


def made_by(row: Row) -> dict[str, Any]:
    return json.loads(row["generator"])


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """A folder with three good clips and their table."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    for number in range(3):
        clip = media.mux(numbered(10 + number), 10, tone(1.0 + number / 10))
        (folder / f"good{number}.mkv").write_bytes(clip)
    table(folder, [f"good{number}.mkv" for number in range(3)])
    return folder


def test_odd_files_among_good_ones(
    shared: Path, good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (shared / "media/edge").iterdir():
        shutil.copy(path, good)
    (good / "empty.mp4").write_bytes(b"")
    (good / "text.mp4").write_text("no clip\n" * 100)
    whole = (good / "nearsilent_single_face.mp4").read_bytes()
    (good / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    names = sorted(path.name for path in good.iterdir() if path.suffix in (".mp4", ".mkv"))
    src = table(good, [*names, "gone.mp4"])
    rows = import_folder(src, tmp_path / "store", "--corpus.max_side", "64")

    assert set(rows) == {Path(name).stem for name in names} - {"empty", "text", "cut"}
    rejected = failures(tmp_path / "store")
    assert {name: record["error"] for name, record in rejected.items()} == {
        "cut": "MediaError", "empty": "MediaError", "text": "MediaError", "gone": "MissingClip",
    }  # fmt: skip
    assert "empty (0 bytes)" in rejected["empty"]["message"]
    assert "is a text" in rejected["text"]["message"]
    assert "as of a file cut short" in rejected["cut"]["message"]
    status = json.loads((tmp_path / "store/status.json").read_text())
    assert (status["done"], status["failed"], status["left"]) == (7, 4, 0)
    assert "11 rows read, 7 done, 4 rejected (1 of them missing)" in capsys.readouterr().out

    assert made_by(rows["nearsilent_single_face"])["notes"] == []
    assert rows["nearsilent_single_face"]["audio"] is not None
    assert made_by(rows["noaudio_sintel_30s"])["notes"] == ["no audio stream"]
    assert rows["noaudio_sintel_30s"]["audio"] is None
    silent = rows["silenttrack_WolfgangLanger_Pexels"]
    assert (made_by(silent)["notes"], silent["audio"]) == (["digital silence"], None)
    noface = rows["noface_caminandes"]
    assert len(media.read_video(noface["video"]["bytes"]).frames) == 95
    assert noface["duration_s"] == pytest.approx(95 / 24)


def test_a_real_corpus(shared: Path, tmp_path: Path) -> None:
    src, out = shared / "media/grid_corpus", tmp_path / "store"
    main(["--corpus.name", "mosi", "--corpus.path", str(src), "--out", str(out)])
    loaded = datasets.load_dataset(str(out), cache_dir=str(tmp_path / "cache"))
    assert {split: len(rows) for split, rows in loaded.items()} == {"train": 8, "valid": 1, "test": 2}
    assert loaded["train"].features == features()
    for row in StoreReader(out).rows():
        source = src / "Raw" / row["group"] / f"{row['id'].split('/')[-1]}.mpg"
        decoded, original = media.read_video(row["video"]["bytes"]), media.read_video(source)
        assert (decoded.fps, row["fps"], row["duration_s"]) == (25, 25, 3)
        assert np.abs(decoded.frames.astype(int) - original.frames).mean() < 3
        assert np.abs(media.read_audio(row["audio"]["bytes"]) - media.read_audio(source)).max() <= 1 / 32768
        assert (row["kind"], row["source_id"], row["weight"]) == ("original", row["id"], 1)


def test_what_a_row_says_of_its_source(good: Path, tmp_path: Path) -> None:
    row = import_folder(good / "label.csv", tmp_path / "store")["good0"]
    made = made_by(row)
    assert (made["method"], made["source_name"], len(made["media_sha256"])) == ("import", "good0.mkv", 64)
    assert made["source"]["fps"] == 10
    assert made["settings"] == {"max_duration_s": 60.0, "max_side": 640, "fps": None}
    assert {"av", "decord2"} <= set(made["versions"])
    assert (row["text"], row["label"], row["group"]) == ("says good0.mkv", 0.5, "good0.mkv")
    assert numbers(media.read_video(row["video"]["bytes"]).frames) == list(range(10))


def test_the_command_that_a_damaged_store_names_makes_it_again(good: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    whole = import_folder(good / "label.csv", store)
    (store / "README.md").write_text("")
    with pytest.raises(
        DamagedStore, match=r": python -m pipelines\.importing --corpus\.name folder"
    ) as damaged:
        StoreReader(store)
    command = shlex.split(str(damaged.value).rpartition(": python ")[2])
    subprocess.run([sys.executable, *command], check=True)
    assert {row["id"].removeprefix("folder/"): row for row in StoreReader(store).rows()} == whole


@pytest.mark.parametrize(
    ("frames", "options", "note", "shape"),
    [
        (
            {"times": np.array([0, 0.1, 0.3, 0.4, 0.9]), "rate": 1000},
            [],
            "variable frame rate, sampled at",
            None,
        ),
        ({"height": 49, "width": 65}, [], "odd size 65x49, cropped to 64x48", (48, 64)),
        ({}, ["--corpus.max_side", "32"], None, (24, 32)),
    ],
)
def test_odd_rates_and_sizes_are_noted(
    tmp_path: Path,
    frames: dict[str, Any],
    options: list[str],
    note: str | None,
    shape: tuple[int, int] | None,
) -> None:
    size = {name: frames.pop(name) for name in ("height", "width") if name in frames}
    # FFV1 takes odd sizes.
    codec = "ffv1" if size else "libx264"
    write_clip(tmp_path / "a.mkv", numbered(5, **size), codec=codec, form="matroska", **frames)
    row = import_folder(table(tmp_path, ["a.mkv"]), tmp_path / "store", *options)["a"]
    notes = made_by(row)["notes"]
    assert notes[-1] == "no audio stream"
    assert [told.startswith(note) for told in notes[:-1]] == [True] if note else len(notes) == 1
    video = media.read_video(row["video"]["bytes"])
    assert shape is None or video.frames.shape[1:3] == shape
    assert media.probe(row["video"]["bytes"]).constant_rate


def test_long_clips_are_rejected_with_both_numbers(good: Path, tmp_path: Path) -> None:
    rows = import_folder(good / "label.csv", tmp_path / "store", "--corpus.max_duration_s", "1.15")
    assert set(rows) == {"good0", "good1"}
    assert (
        "lasts 1.20 s, the limit is max_duration_s 1.15" in failures(tmp_path / "store")["good2"]["message"]
    )


def test_fast_clips_are_sampled_at_30(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mp4", numbered(60), rate=60)
    src = table(tmp_path, ["a.mp4"])
    row = import_folder(src, tmp_path / "store")["a"]
    assert row["fps"] == 30
    assert numbers(media.read_video(row["video"]["bytes"]).frames) == list(range(0, 60, 2))
    assert import_folder(src, tmp_path / "other", "--corpus.fps", "12")["a"]["fps"] == 12


def test_sound_alone_is_kept_and_silence_alone_is_not(tmp_path: Path) -> None:
    (tmp_path / "sound.flac").write_bytes(media.encode_audio(tone(0.5)))
    (tmp_path / "silence.flac").write_bytes(media.encode_audio(np.zeros(8000, np.float32)))
    rows = import_folder(table(tmp_path, ["sound.flac", "silence.flac"]), tmp_path / "store")
    assert (rows["sound"]["video"], rows["sound"]["fps"], rows["sound"]["duration_s"]) == (None, None, 0.5)
    assert made_by(rows["sound"])["notes"] == ["no video stream"]
    message = failures(tmp_path / "store")["silence"]["message"]
    assert "has neither video nor audio (no video stream, digital silence)" in message


def lines_of(folder: Path, *lines: str, header: str = "path,text,label,split,group,id") -> Path:
    path = folder / "label.csv"
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path


def test_a_row_of_text_alone_is_stored_without_media(
    good: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    src = lines_of(good, "good0.mkv,,1,train,ann,", ",i like it,2,train,bob,said", "gone.mkv,hi,0,train,cy,")
    rows = import_folder(src, tmp_path / "store")
    alone, silent = rows["said"], rows["good0"]
    assert [alone[name] for name in ("video", "audio", "duration_s", "fps")] == [None] * 4
    assert (alone["text"], alone["label"], alone["weight"], alone["kind"]) == ("i like it", 2, 1, "original")
    made = made_by(alone)
    assert (made["notes"], made["media_sha256"], made["source"]) == (["no media"], None, None)
    assert (silent["text"], made_by(silent)["notes"]) == ("", [])
    assert "folder: 1 of 3 rows have no transcript" in caplog.text
    missing = failures(tmp_path / "store")["gone"]
    assert missing["error"] == "MissingClip"
    assert missing["message"] == "folder/gone: the table has it, but there is no media file gone.mkv"


def test_a_corpus_of_text_alone_needs_no_column_for_media(tmp_path: Path) -> None:
    src = lines_of(tmp_path, "1,good,1,train,ann", "2,bad,-1,test,bob", header="id,text,label,split,group")
    rows = import_folder(src, tmp_path / "store")
    assert {name: row["text"] for name, row in rows.items()} == {"1": "good", "2": "bad"}
    loaded = datasets.load_dataset(str(tmp_path / "store"), cache_dir=str(tmp_path / "cache"))
    assert loaded["test"][0]["video"] is None


def test_a_missing_clip_whose_path_is_taken_out_is_a_row_of_text_alone(tmp_path: Path) -> None:
    import_folder(lines_of(tmp_path, "a.mp4,hi,0,train,ann,a", ",ho,0,train,ann,b"), tmp_path / "store")
    rows = import_folder(lines_of(tmp_path, ",hi,0,train,ann,a", ",ho,0,train,ann,b"), tmp_path / "store")
    assert set(rows) == {"a", "b"}
    assert failures(tmp_path / "store") == {}


BAD_LINES = (",hi,7,train,ann,1", ",,0,train,ann,2", "a.mp4,hi", ",hi,0,tain,ann,4")


def test_bad_lines_are_rejected_and_the_others_imported(
    good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    src = lines_of(
        good, BAD_LINES[0], "good0.mkv,yes,1,train,bob,", *BAD_LINES[1:], "gone.mkv,no,1,train,bob,"
    )
    assert set(import_folder(src, tmp_path / "store")) == {"good0"}
    rejected = failures(tmp_path / "store")
    assert {name: record["error"] for name, record in rejected.items()} == {
        "gone": "MissingClip",
        **dict.fromkeys([f"label.csv:{line}" for line in (2, 4, 5, 6)], "MalformedLine"),
    }
    assert (
        rejected["label.csv:2"]["message"] == "label.csv, line 2: label is outside the scale mosi [-3, 3] (7)"
    )
    status = json.loads((tmp_path / "store/status.json").read_text())
    assert (status["done"], status["failed"], status["left"]) == (1, 5, 0)
    told = "6 rows read, 1 done, 5 rejected (1 of them missing, 4 of them malformed lines)"
    assert told in capsys.readouterr().out

    mended = src.read_text().replace(BAD_LINES[0], ",hi,3,train,ann,1")
    src.write_text(mended)
    assert set(import_folder(src, tmp_path / "store")) == {"1", "good0"}
    assert set(failures(tmp_path / "store")) == {"gone", "label.csv:4", "label.csv:5", "label.csv:6"}


def test_bad_lines_count_as_failures(good: Path, tmp_path: Path) -> None:
    src = lines_of(good, "good0.mkv,yes,1,train,bob,", *BAD_LINES)
    with pytest.raises(StageFailed, match=r"max_failures is 2"):
        import_folder(src, tmp_path / "store", "--max-failures", "2")


@pytest.mark.parametrize("strict", [["--strict"], ["--corpus.strict", "true"]])
def test_a_strict_import_refuses_the_whole_table(good: Path, tmp_path: Path, strict: list[str]) -> None:
    src = lines_of(good, "good0.mkv,yes,1,train,bob,", *BAD_LINES)
    with pytest.raises(
        CorpusError, match="the table is malformed and nothing was imported; has not 6 values"
    ):
        daq_msa(["import", "folder", str(src), "--out", str(tmp_path / "store"), *strict])
    assert not (tmp_path / "store").exists()


def decoders() -> int:
    """How many processes that decode there are."""
    gc.collect()
    return sum(type(each) is _Child for each in gc.get_objects())


def test_an_import_ends_its_decoders_before_it_commits(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The decoders' memory is free when the commit needs its own."""
    counts: list[tuple[str, int]] = []

    def counting(name: str) -> Any:
        own = getattr(Stage, name)

        def counted(*arguments: Any, **named: Any) -> Any:
            if name == "commit":
                counts.append((name, decoders()))
            result = own(*arguments, **named)
            if name == "perform":
                counts.append((name, decoders()))
            return result

        return counted

    for name in ("perform", "commit"):
        monkeypatch.setattr(Stage, name, counting(name))
    before = decoders()
    import_folder(table(tmp_path, [str(next(good.iterdir()))]), tmp_path / "store")
    assert counts == [("perform", before + 1), ("commit", before)]


def test_a_corpus_without_a_good_clip_fails(tmp_path: Path) -> None:
    told = r"holds none of the 1 clips of its tables, such as gone\.mp4; folder is a CSV whose column path"
    with pytest.raises(CorpusError, match=told):
        import_folder(table(tmp_path, ["gone.mp4"]), tmp_path / "store")
    assert not (tmp_path / "store").exists()
    (tmp_path / "empty.mp4").write_bytes(b"")
    with pytest.raises(StageFailed, match="all 2 rows failed, the first with MissingClip"):
        import_folder(table(tmp_path, ["gone.mp4", "empty.mp4"]), tmp_path / "store")


def test_only_changed_files_are_done_again(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = import_folder(good / "label.csv", tmp_path / "store")
    done: list[str] = []
    row = importing.ImportClips._row
    monkeypatch.setattr(
        importing.ImportClips,
        "_row",
        lambda self, loaded: done.append(loaded.name) or row(self, loaded),
    )
    assert import_folder(good / "label.csv", tmp_path / "store") == before
    assert done == []
    os.utime(good / "good0.mkv")  # read again, but its content is the same
    (good / "good1.mkv").write_bytes(media.mux(numbered(20), 10, tone(2.0)))
    with pytest.raises(UsageError, match="holds finished rows of other settings or inputs"):
        import_folder(good / "label.csv", tmp_path / "store")
    after = import_folder(good / "label.csv", tmp_path / "store", "--overwrite")
    assert done == ["good1.mkv"]
    assert after["good1"]["duration_s"] == 2
    assert {name: row for name, row in after.items() if name != "good1"} == {
        name: row for name, row in before.items() if name != "good1"
    }


def test_a_rejected_clip_does_not_make_its_neighbours_twice(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    row = importing.ImportClips._row
    monkeypatch.setattr(
        importing.ImportClips,
        "_row",
        lambda self, loaded: done.append(loaded.name) or row(self, loaded),
    )
    monkeypatch.setattr(importing, "batch_size", lambda: 4)
    (good / "text.mp4").write_text("no clip")
    names = ["good0.mkv", "text.mp4", "good1.mkv", "good2.mkv"]
    assert len(import_folder(table(good, names), tmp_path / "store")) == 3
    assert sorted(done) == sorted(names)


def test_killed_and_started_again_gives_the_same_rows(tmp_path: Path) -> None:
    names = [f"clip{number:02d}.mkv" for number in range(16)]
    for number, name in enumerate(names):
        frames = np.random.default_rng(number).integers(0, 255, (25, 64, 64, 3), dtype=np.uint8)
        (tmp_path / name).write_bytes(media.mux(frames, 25, tone(1.0)))
    src = table(tmp_path, names)
    straight = import_folder(src, tmp_path / "straight")
    parts = (tmp_path / "killed").glob
    processes.kill(
        "pipelines",
        ["import", "folder", str(src), "--out", str(tmp_path / "killed")],
        once=lambda: list(parts("parts/*/*.parquet")),
    )
    assert not (tmp_path / "killed/README.md").exists()
    assert list((tmp_path / "killed").glob("parts/*/*.parquet"))
    assert import_folder(src, tmp_path / "killed") == straight


def test_malformed_tables_are_refused_before_anything_is_written(shared: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    (corpus / "Raw").mkdir(parents=True)
    shutil.copy(shared / "labels/mosei/label_MALFORMED_EXCERPT.csv", corpus / "label.csv")
    with pytest.raises(CorpusError, match="text is empty: line 2, 3, 4, 5, 6 and 23 more"):
        main(["--corpus.name", "mosei", "--corpus.path", str(corpus), "--out", str(tmp_path / "store")])
    assert not (tmp_path / "store").exists()


def test_official_splits_that_cut_through_groups_are_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for split, number in (("train", 0), ("test", 1)):
        (corpus / f"{split}_sent_emo.csv").write_text(
            f"Utterance,Speaker,Sentiment,Dialogue_ID,Utterance_ID\nOh.,Joey,positive,{number},0\n"
        )
        (corpus / split).mkdir()
        clip = media.mux(numbered(5), 10, tone(0.5))
        (corpus / split / f"dia{number}_utt0.mkv").write_bytes(clip)
    main(["--corpus.name", "meld", "--corpus.path", str(corpus), "--out", str(tmp_path / "store")])
    assert "meld: groups in more than one of the official splits: 1" in caplog.text
    settings = json.loads((tmp_path / "store/settings.json").read_text())
    assert settings["inputs"]["crossing_groups"] == {"Joey": ["test", "train"]}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--corpus.name", "mosi"], "corpus.path: got None; give the folder or CSV of mosi"),
        (["--corpus.name", "mosi", "--corpus.path", "nowhere"], "corpus.path: nowhere does not exist"),
        (["--corpus.path", "x"], "corpus.path: got x; puppets have none"),
        (["--corpus.fold", "2"], "corpus.fold, speaker_independent: these are of mustard"),
        (
            ["--corpus.name", "mustard", "--corpus.path", "x", "--corpus.fold", "5"],
            "corpus.fold: 5 is not 0 to 4",
        ),
        (
            ["--corpus.name", "mustard", "--corpus.path", "x", "--corpus.fold=-1"],
            "corpus.fold: -1 is not 0 to 4",
        ),
        (["--corpus.fps", "0"], "corpus.fps: 0 is not null or in (0, 120]"),
        (["--corpus.max_side", "3"], "corpus.max_side: 3 is not null or 16 or more"),
        (["--corpus.max_duration_s", "-1"], "corpus.max_duration_s: -1 is not above 0"),
        (["--corpus.max_duration_s", ".nan"], "corpus.max_duration_s: nan is not above 0 and finite"),
        (["--corpus.max_duration_s", ".inf"], "corpus.max_duration_s: inf is not above 0 and finite"),
        (["--max-failures", "-1"], "--max-failures: got -1; takes 0 or more"),
    ],
)
def test_wrong_settings_name_their_key(tmp_path: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        main([*arguments, "--out", str(tmp_path / "store")])
    assert message in str(caught.value)

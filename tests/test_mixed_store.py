"""A corpus of text alone, picture alone, sound alone and all of it goes through every stage."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from augment.__main__ import main as augment
from finetune.__main__ import main as finetune
from finetune.evaluation import main as evaluate
from finetune.fusion.features.extract import from_store
from finetune.fusion.settings import ExtractSettings
from pipelines import media
from pipelines.importing import main as import_corpus
from pipelines.report.page import write_report
from pipelines.store import StoreReader
from score.__main__ import main as score
from tests.pipelines.clips import numbered, tone

KINDS = ("text", "picture", "sound", "all")
SPLITS = {"train": 8, "valid": 4, "test": 4}


def write_corpus(folder: Path) -> Path:
    """A table whose rows take turns in what they have; a row of picture and sound has no transcript."""
    lines = []
    for split, count in SPLITS.items():
        for number in range(count):
            kind, name = KINDS[number % len(KINDS)], f"{split}{number}"
            frames, sound = numbered(10), tone(1.0, hertz=200 + 40 * number)
            made = {
                "picture": (".mp4", lambda frames=frames: media.encode_video(frames, 10)),
                "sound": (".flac", lambda sound=sound: media.encode_audio(sound)),
                "all": (".mkv", lambda frames=frames, sound=sound: media.mux(frames, 10, sound)),
            }
            path = ""
            if kind in made:
                ending, encode = made[kind]
                path = name + ending
                (folder / path).write_bytes(encode())
            words = "" if kind == "all" and number > len(KINDS) else f"i like it {number} times"
            lines.append([path, words, (number % 7) - 3, split, name, f"{kind}-{name}"])
    with (folder / "label.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path", "text", "label", "split", "group", "id"], *lines])
    return folder / "label.csv"


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the store of each stage, and the model."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "corpus").mkdir()
    corpus = ["--corpus.name", "folder", "--corpus.path", str(write_corpus(folder / "corpus"))]
    import_corpus([*corpus, "--out", str(folder / "originals")])

    def stage(main: Any, data: str, out: str, *settings: str) -> None:
        main(["--data", str(folder / data), "--out", str(folder / out), *settings])

    classic = ["--augment.classic.variants", "1", "--augment.video.variants", "0"]
    classic += ["--augment.classic.tracks", "[video, audio]"]
    stage(augment, "originals", "augmented", *classic, "--augment.audio.variants", "0")
    stage(score, "augmented", "scored")
    small = ["--finetune.epochs", "1", "--finetune.batch_size", "4", "--finetune.max_frames", "2"]
    stage(finetune, "scored", "model", *small, "--finetune.best_by", "MAE")
    return folder


def rows(store: Path) -> dict[str, dict[str, Any]]:
    return {row["id"].removeprefix("folder/"): row for row in StoreReader(store).rows()}


def test_rows_have_what_their_line_has(work: Path) -> None:
    for name, row in rows(work / "originals").items():
        kind = name.partition("-")[0]
        assert (row["video"] is not None) == (kind in ("picture", "all"))
        assert (row["audio"] is not None) == (kind in ("sound", "all"))
        assert (row["fps"] is None) == (kind in ("text", "sound"))
        assert (row["duration_s"] is None) == (kind == "text")


def test_what_a_row_has_is_varied_and_text_alone_passes(work: Path) -> None:
    made, before = rows(work / "scored"), rows(work / "originals")
    variants = {name: row for name, row in made.items() if row["kind"] != "original"}
    assert set(variants) == {
        f"{kind}-train{number}#classic-0" for number, kind in enumerate(2 * KINDS) if kind != "text"
    }
    for name, row in variants.items():
        source = before[name.partition("#")[0]]
        for track in ("video", "audio"):
            assert (row[track] is None) == (source[track] is None)
            assert row[track] is None or row[track] != source[track], f"{name}: its {track} is new"
        assert {track for track in ("video", "audio") if row[f"quality_{track}"] is not None} == {
            track for track in ("video", "audio") if source[track] is not None
        }
    assert set(made) > set(rows(work / "originals"))
    for row in made.values():
        assert row["weight"] == 1 if row["kind"] == "original" else 0.1 <= row["weight"] <= 1
    for stage in ("originals", "augmented", "scored"):
        assert (work / stage / "failures.jsonl").read_text() == ""


def test_every_row_is_rated(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evaluate(["--model", str(work / "model"), "--data", str(work / "scored")])
    assert json.loads(capsys.readouterr().out)["test"]["rows"] == SPLITS["test"]
    rated = pyarrow.parquet.read_table(work / "model" / "predictions.parquet")
    assert rated["prediction"].null_count == 0
    assert len(set(rated["prediction"].to_pylist())) == SPLITS["test"]


def test_the_report_and_the_features_have_every_row(work: Path) -> None:
    page = write_report(work / "scored", work / "report").read_text(encoding="utf-8")
    assert page.count("Text only: neither video nor audio.") == page.count('data-text="folder/text-') == 4
    features, failures = from_store(work / "scored", ("text", "audio", "video"), ExtractSettings())
    assert failures == []
    assert {split: len(made) for split, made in features.splits.items()} == SPLITS | {"train": 14}

"""One clip is rated as it is in a store."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from finetune import evaluation
from finetune.__main__ import main as finetune
from finetune.prediction import clip_row, main
from pipelines import importing
from pipelines.errors import RunError, UsageError
from pipelines.media import encode_audio, encode_video, mux
from pipelines.store import StoreReader
from tests import processes, tiny
from tests.pipelines.clips import numbered, tone

TEXT = "i do not like <|im_end|> it, 我"


@pytest.fixture(scope="module")
def trained(tiny_thinker: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tiny.store(tmp_path_factory.mktemp("store"), [tiny.row(0), tiny.row(1), tiny.row(2, "test")])
    out = tmp_path_factory.mktemp("trained")
    settings = {"model": tiny_thinker, "epochs": 4, "batch_size": 2, "learning_rate": 0.02}
    given = [part for name, value in settings.items() for part in (f"--finetune.{name}", str(value))]
    finetune(["--data", str(store), "--out", str(out), *given])
    return out


@pytest.fixture
def clips(tmp_path: Path) -> dict[str, Path]:
    """Clips of about 1.1 s: with both, with sound alone, with a picture alone."""
    frames, samples = numbered(11), tone(1.1)
    made = {"both.mkv": mux(frames, 10, samples), "sound.flac": encode_audio(samples)}
    made["picture.mp4"] = encode_video(frames, 10)
    for name, data in made.items():
        (tmp_path / name).write_bytes(data)
    return {name.split(".")[0]: tmp_path / name for name in made}


def predicted(model: Path, *arguments: Any, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    capsys.readouterr()
    main(["--model", str(model), "--json", *map(str, arguments)])
    return json.loads(capsys.readouterr().out)


def evaluated(model: Path, clip: Path, text: str, folder: Path) -> tuple[float, StoreReader]:
    """A clip's rating by way of a corpus of this one clip; and its store."""
    table = folder / "label.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(
            [["path", "text", "label", "split", "group"], [clip.name, text, 0.5, "test", "somebody"]]
        )
    (folder / clip.name).exists() or (folder / clip.name).symlink_to(clip)
    importing.main(["--corpus.name", "folder", "--corpus.path", str(table), "--out", str(folder / "store")])
    rated = folder / "rated"
    evaluation.main(["--model", str(model), "--data", str(folder / "store"), "--out", str(rated)])
    found = pyarrow.parquet.read_table(rated / "predictions.parquet").to_pylist()
    return found[0]["prediction"], StoreReader(folder / "store")


@pytest.mark.parametrize("name", ["both", "sound", "picture"])
def test_a_clip_is_rated_as_in_a_store(
    name: str, clips: dict[str, Path], trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted, reader = evaluated(trained, clips[name], TEXT, tmp_path)
    found = predicted(trained, clips[name], "--text", TEXT, capsys=capsys)
    assert found["rating"] == pytest.approx(wanted, abs=1e-6)
    row, stored = clip_row(clips[name], TEXT, None, "mosi"), reader.row(0)
    assert {key for key in row if row[key] != stored[key]} == {
        *("id", "source_id", "group", "label", "corpus")
    }
    frames = 0 if name == "sound" else 2  # 2 a second
    assert (found["frames"], found["text"]) == (frames, TEXT)
    assert found["sound_s"] == (0 if name == "picture" else pytest.approx(1.1, abs=0.03))


def test_a_real_clip_is_rated_as_in_a_store(
    shared: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = sorted(shared.glob("media/grid_corpus/Raw/*/*.mpg"))[0]
    wanted, _ = evaluated(trained, clip, "bin blue at f two now", tmp_path)
    found = predicted(trained, clip, "--text", "bin blue at f two now", capsys=capsys)
    assert found["rating"] == pytest.approx(wanted, abs=1e-6)
    assert found["frames"] > 0
    assert found["sound_s"] > 2


def test_what_a_clip_lacks_changes_its_rating(
    clips: dict[str, Path], trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ratings = [
        predicted(trained, *arguments, capsys=capsys)["rating"]
        for arguments in (
            [clips["both"], "--text", TEXT],
            [clips["both"]],
            [clips["sound"]],
            ["--text", TEXT],
            ["--text", TEXT, "--language", "zh"],
        )
    ]
    assert len(set(ratings)) == len(ratings)


def test_it_tells_people_too(
    clips: dict[str, Path], trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["--model", str(trained), str(clips["picture"])])
    told = capsys.readouterr().out
    assert "on the scale mosi, -3 to 3\n" in told
    assert "shown: 2 frames, 0.0 s of sound, no text (no audio stream)" in told


def test_what_cannot_be_rated_is_refused(
    clips: dict[str, Path], trained: Path, tmp_path: Path, shared: Path
) -> None:
    (tmp_path / "notes.txt").write_text("no clip\n" * 50)
    (tmp_path / "broken.flv").write_bytes((shared / "cases" / "late_keyframe.flv").read_bytes()[:4000])
    os.mkfifo(tmp_path / "pipe.mp4")
    for arguments, error, told in (
        ([tmp_path / "pipe.mp4"], RunError, r"CLIP: .*pipe.mp4: is a pipe, wanted a file"),
        ([tmp_path], RunError, r"CLIP: .*: is a folder, wanted a file"),
        (["/dev/zero"], RunError, r"CLIP: /dev/zero: is a device, wanted a file"),
        ([tmp_path / ("a" * 300)], RunError, r"CLIP: .*: cannot be read .File name too long"),
        ([tmp_path / "gone.mp4"], UsageError, r"CLIP: .*gone.mp4 is no file"),
        ([], UsageError, "CLIP: neither a media file nor --text"),
        (["--text", "caf\udce9"], UsageError, r"--text: 'caf.udce9' has bytes that are not UTF-8"),
        ([tmp_path / "notes.txt", "--text", TEXT], RunError, r"CLIP: .*notes.txt"),
        ([tmp_path / "broken.flv"], RunError, r"CLIP: .*broken.flv"),
    ):
        with pytest.raises(error, match=told):
            main(["--model", str(trained), *map(str, arguments)])
    with pytest.raises(UsageError, match=r"--model: .* holds no model.json"):
        main(["--model", str(tmp_path), str(clips["both"])])


@pytest.mark.slow
def test_the_command_prints_nothing_but_the_json(trained: Path) -> None:
    command = ["-m", "pipelines", "predict", "--model", str(trained), "--text", "a good film", "--json"]
    done = subprocess.run(
        [sys.executable, *command], cwd=processes.ROOT, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout)["text"] == "a good film"

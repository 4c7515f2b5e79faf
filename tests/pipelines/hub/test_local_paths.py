"""No path of this machine leaves in any pushed file, and what is no path stays as it is."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet
import pytest

from pipelines.hub import local_paths
from pipelines.hub.local_paths import LocalPathError, clean_record, cleaned, without_paths
from pipelines.hub.push import push
from pipelines.row import digest
from pipelines.store import StoreReader, commit, shards
from tests.hub_server import StandInHub
from tests.pipelines.hub.conftest import SETTINGS, TOKEN, make_store, rows


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("/home/ann/clips/label.csv", "label.csv"),
        ("x=/home/ann/My Videos/a.mp4", "x=a.mp4"),
        ("/home/Ann Smith/b c/a.mp4: no sound", "a.mp4: no sound"),
        ("saved /home/ann/a.mp4 and/or b", "saved a.mp4 and/or b"),
        ("[Errno 2] No such file: '/home/ann/a b.mp4'", "[Errno 2] No such file: 'a b.mp4'"),
        ("file:///home/ann/x.wav", "x.wav"),
        ("C:\\Users\\ann\\x.mp4 and", "x.mp4 and"),
        ("D:/corpus/x.mp4", "x.mp4"),
        ("\\\\server\\share\\x.mp4", "x.mp4"),
        ("~/runs/x", "x"),
        ("~ann/x", "x"),
        ("../../ann/x.mp4", "x.mp4"),
        ("PATH=/usr/bin:/home/ann/bin", "PATH=bin"),
        ("/2tb/ann/ü.mp4", "ü.mp4"),
        ("/home/ann", "(local)"),
        ("/Users/ann/", "(local)"),
    ],
)
def test_paths(text: str, left: str) -> None:
    assert without_paths(text) == left


def test_a_home_whose_name_reads_like_two_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/O'Brien, Ann")
    local_paths._home.cache_clear()
    assert without_paths("see /home/O'Brien, Ann/runs/x.mp4") == "see x.mp4"
    assert without_paths("in /home/O'Brien, Ann") == "in ~"
    monkeypatch.undo()
    local_paths._home.cache_clear()


@pytest.mark.parametrize(
    "text",
    [
        "https://huggingface.co/ann/model?x=1", "superb/hubert-base-superb-er@main", "I/O and 24/7, w / h",
        "a/../b", "</svg><path d='M 1/2'/>", '"-//W3C//DTD SVG 1.1//EN"', "data/train-a-00000.parquet",
        "mosi/video/1#both-0", "3 /4", "~40 s", "either/or", "clips/a b.mp4",
    ],
)  # fmt: skip
def test_what_is_no_path_stays(text: str) -> None:
    assert without_paths(text) == text


def test_settings() -> None:
    settings = {
        "command": "'python -m score' --config /srv/r/demo.yaml --data runs/ann/made --out=runs/ann/scored",
        "config": {"path": "raw/ann/label.csv", "model": "ann/model", "video": {"model": "/srv/ann/sd15"}},
        "inputs": ["/home/ann/x/y.pt", 3, None],
    }
    assert cleaned(settings) == {
        "command": "'python -m score' --config demo.yaml --data made --out=scored",
        "config": {"path": "label.csv", "model": "ann/model", "video": {"model": "sd15"}},
        "inputs": ["y.pt", 3, None],
    }


def test_records_without_paths_stay_to_the_byte(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store")
    for name in ("settings.json", "README.md", "failures.jsonl"):
        assert clean_record(store / name) == (store / name).read_bytes()


@pytest.mark.parametrize("name", ["settings.json", "failures.jsonl", "weights.json", "README.md"])
def test_a_damaged_record_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b'{"a": "/home/ann\xff')
    with pytest.raises(LocalPathError, match=f"{name}: damaged, so it is not known"):
        clean_record(tmp_path / name)


def test_nothing_that_is_pushed_tells_where_it_was_made(here: StandInHub, tmp_path: Path) -> None:
    home = "/home/ann-secret"
    made = json.dumps({"video": {"model": f"{home}/models/sd15"}, "source_name": f"../..{home}/x.mp4"})
    changed = [row | {"generator": made} for row in rows("puppets", 3)]
    settings = {
        "description": f"Made in {home}/runs.",
        "notes": [f"With voices of {home}/voices."],
        "command": f"daq-msa import folder {home}/a/label.csv --out runs/ann-secret/originals",
        "config": {"name": "folder", "path": f"{home}/a/label.csv"},
        "inputs": {"voices": f"{home}/voices.csv"},
    }
    store = tmp_path / "store"
    commit(store, changed, generation=digest("a"), settings=SETTINGS | settings)
    (store / "failures.jsonl").write_text(
        json.dumps({"id": "x", "message": f"line\n{home}/y.mp4: no"}) + "\n"
    )
    (store / "calibration.svg").write_text(f"<svg><desc>{home}/fig.svg</desc></svg>")
    before = {path: path.read_bytes() for path in store.rglob("*") if path.is_file()}
    said: list[str] = []
    for _ in range(2):
        here.requests.clear()
        assert push(store, "ann/clips", token=TOKEN, say=said.append)
    assert not [request for request in here.requests if request.method == "PUT"], (
        "the copies are the same again"
    )
    assert any("without the paths of this machine: train-" in line for line in said)
    assert {path: path.read_bytes() for path in store.rglob("*") if path.is_file()} == before

    copy = tmp_path / "copy"
    for path, file in here.repositories["ann/clips"].files.items():
        (copy / path).parent.mkdir(parents=True, exist_ok=True)
        (copy / path).write_bytes(file.content)
        assert b"ann-secret" not in file.content, path
    assert "sha256" not in json.loads((copy / "settings.json").read_text())
    ours, theirs = StoreReader(store), StoreReader(copy)
    assert shards(copy)[0].name != shards(store)[0].name
    cleaned_row = {"generator": json.dumps({"source_name": "x.mp4", "video": {"model": "sd15"}})}
    assert [*theirs.rows()] == [row | cleaned_row for row in ours.rows()]
    schemas = [pyarrow.parquet.read_schema(shards(each)[0]) for each in (store, copy)]
    assert schemas[0].equals(schemas[1], check_metadata=True)


@pytest.mark.parametrize(
    "made", ["folder//home/ann/x", "folder/../ann/x", "folder/C:\\Users\\ann", "~/x", "/srv/x"]
)
def test_an_id_that_is_a_path_is_refused(tmp_path: Path, made: str) -> None:
    store = tmp_path / "store"
    named = [row | {"group": made} for row in rows("folder", 2)]
    commit(store, named, generation=digest("a"), settings=SETTINGS)
    with pytest.raises(
        LocalPathError, match=r"the group .* is a local path, which is not pushed; give the corpus'"
    ):
        push(store, "ann/clips", dry_run=True)

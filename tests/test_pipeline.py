"""The whole pipeline by its command, on puppets and on real clips, with the checkpoints that are shipped."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from datasets import load_dataset

from pipelines.row import features
from pipelines.store import StoreReader, open_store
from tests.hub_server import StandInHub

ROOT = Path(__file__).resolve().parents[1]
TOKEN = "hf_of-the-demo"

pytestmark = pytest.mark.slow


def command(*arguments: object, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "pipelines", *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    out = tmp_path_factory.mktemp("demo")
    return out, command("demo", "--out", out, "--corpus.clips", 16, "--finetune.epochs", 1)


def test_the_demo_ends_with_metrics_before_and_after(demo: tuple[Path, str]) -> None:
    out, printed = demo
    table = printed[printed.index("test split") :].splitlines()
    assert table[0].split() == ["test", "split", "before", "after"]
    metrics = json.loads((out / "model" / "metrics.json").read_text())["test"]
    for line in table[1:]:
        name, *said = line.split()
        for column, value in zip(("before", "after"), said, strict=True):
            known = metrics[column][name]
            assert value == "–" if known is None else float(value) == pytest.approx(known, abs=1e-4)
    assert {"MAE", "Corr", "Has0_acc_2", "Mult_acc_7"} <= {line.split()[0] for line in table[1:]}


def test_the_scored_store_has_the_contracts_columns(demo: tuple[Path, str], tmp_path: Path) -> None:
    loaded = load_dataset(str(demo[0] / "scored"), cache_dir=str(tmp_path))
    assert set(loaded) == {"train", "valid", "test"}
    columns = loaded["train"].features
    assert {name: columns[name] for name in features()} == features()
    scores = [name for name in columns if name.startswith("score_")]
    assert len(scores) >= 3
    for split, rows in loaded.items():
        for row in rows:
            assert (row["kind"] == "original") == (row["id"] == row["source_id"])
            assert row["kind"] == "original" or split == "train"
            assert (row["weight"] == 1) if row["kind"] == "original" else (0 <= row["weight"] <= 1)
    assert {"original", "video", "audio", "both"} == set(loaded["train"]["kind"])


def test_the_readmes_example_reads_the_scored_store(demo: tuple[Path, str], tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    example = readme.partition("```python\n")[2].partition("```")[0]
    assert "runs/demo/scored" in example
    code = example.replace("runs/demo", str(demo[0]))
    environment = os.environ | {"HF_DATASETS_CACHE": str(tmp_path)}
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    kind, weight, _ = ran.stdout.split()
    assert kind == "video"
    assert 0 <= float(weight) <= 1


def test_the_report_shows_every_family(demo: tuple[Path, str]) -> None:
    page = (demo[0] / "report" / "index.html").read_text(encoding="utf-8")
    sources = set(StoreReader(demo[0] / "scored").table["source_id"].to_pylist())
    assert all(source in page for source in sources)


def test_the_scored_store_pushed_and_loaded_back_is_equal(demo: tuple[Path, str], tmp_path: Path) -> None:
    with StandInHub({TOKEN: "ann"}) as hub:
        there = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path), "HF_HUB_DISABLE_XET": "1"}
        there |= {"HF_TOKEN": TOKEN, "HF_HUB_OFFLINE": "0"}
        command("push", demo[0] / "scored", "ann/puppets", **there)
        read = (
            "from datasets import load_dataset, concatenate_datasets as join\n"
            "loaded = load_dataset('ann/puppets')\n"
            f"join([loaded[name] for name in ('train', 'valid', 'test')]).to_parquet({str(tmp_path / 'b')!r})"
        )
        subprocess.run([sys.executable, "-c", read], env=os.environ | there, check=True)
    back = load_dataset("parquet", data_files=str(tmp_path / "b"), split="train", cache_dir=str(tmp_path))
    assert back.to_list() == open_store(demo[0] / "scored").to_list()


def test_a_finished_run_does_nothing_again(demo: tuple[Path, str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in demo[0].glob("*/data/*.parquet")}
    command("demo", "--out", demo[0], "--corpus.clips", 16, "--finetune.epochs", 1)
    assert {path: path.stat().st_mtime_ns for path in demo[0].glob("*/data/*.parquet")} == before


def test_real_clips_go_through_every_stage(shared: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"seed: 1\ncorpus: {{name: mosi, path: {shared / 'media' / 'grid_corpus'}, fps: 5, max_side: 96}}\n"
        "augment: {video: {steps: 2, allow_embedded: true}, audio: {steps: 2}}\nfinetune: {epochs: 1}\n"
    )
    said = command("run", "--config", recipe, "--work", tmp_path / "work")
    assert "11 rows read, 11 done, 0 rejected" in said
    kinds = StoreReader(tmp_path / "work" / "scored").table["kind"].to_pylist()
    training = StoreReader(tmp_path / "work" / "originals").table["split"].to_pylist().count("train")
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {
        "original": 11,
        "video": training,
        "audio": training,
    }

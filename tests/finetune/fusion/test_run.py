"""The command from end to end: files, metrics, starting again, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
import torch
import yaml

from finetune.fusion.__main__ import main
from finetune.fusion.features.arrays import FeatureError
from finetune.fusion.features.convert import convert
from finetune.fusion.features.mmsa_pickle import from_pickle
from finetune.fusion.run import load
from finetune.fusion.total_loss import batch_of
from finetune.msa_metrics import DEFINITIONS, measured
from pipelines.errors import RunError, UsageError
from pipelines.row import media as held
from tests.finetune.fusion.made import mmsa_content, row, rows, store, write

FAST: dict[str, Any] = {
    "seeds": [1, 2],
    "network": {"width": 16, "heads": 2, "steps": 6, "dropout": 0.0},
    "training": {"epochs": 6, "batch_size": 8, "learning_rate": 2e-2, "device": "cpu"},
}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "recipe.yaml"
    path.write_text(yaml.safe_dump({"fusion": FAST}))
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("data") / "unaligned.pkl", mmsa_content())


@pytest.fixture(scope="module")
def done(recipe: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a run that has ended."""
    out = tmp_path_factory.mktemp("done") / "out"
    start(recipe, data, out)
    return out


def start(recipe: Path, data: Path, out: Path, *more: str) -> dict[str, Any]:
    main(["--config", str(recipe), "--data", str(data), "--out", str(out), *more])
    return summary_of(out)


def summary_of(out: Path) -> dict[str, Any]:
    return json.loads((out / "metrics.json").read_text())


def test_trains_from_a_pickle(done: Path) -> None:
    summary = summary_of(done)
    assert summary["rows"] == {"train": 40, "valid": 12, "test": 12, "failed": 0}
    assert set(summary["seeds"]) == {"1", "2"}
    errors = [found["test"]["MAE"] for found in summary["seeds"].values()]
    assert summary["mean"]["test"]["MAE"] == pytest.approx(np.mean(errors), abs=1e-4)
    assert summary["spread"]["test"]["MAE"] == pytest.approx(np.std(errors, ddof=1), abs=1e-4)
    labels = mmsa_content()["test"]["regression_labels"]
    assert summary["mean"]["test"]["MAE"] < 0.7 * np.abs(labels - np.median(labels)).mean()


def test_what_it_leaves_is_what_it_rated(done: Path, data: Path) -> None:
    summary = summary_of(done)
    table = pyarrow.parquet.read_table(done / "predictions.parquet").to_pandas()
    best = table[(table.seed == summary["best_seed"]) & (table.split == "test")]
    found = summary["seeds"][str(summary["best_seed"])]["test"]
    assert {
        name: found[name] for name in measured(DEFINITIONS["mosi"], best.prediction, best.label)
    } == measured(DEFINITIONS["mosi"], best.prediction, best.label)
    test = from_pickle(data, ("text", "audio", "video")).splits["test"]
    batch = batch_of(test, np.arange(len(test)), torch.device("cpu"))
    with torch.no_grad():
        again = load(done)(batch.values, batch.masks).prediction
    np.testing.assert_allclose(again, best.prediction, atol=1e-5)


def test_a_converted_pickle_trains_the_same_networks(
    recipe: Path, data: Path, done: Path, tmp_path: Path
) -> None:
    path = tmp_path / "features.safetensors"
    convert(data, path)
    assert start(recipe, path, tmp_path / "out") == summary_of(done)


def test_started_again_it_keeps_the_seeds_that_are_done(
    recipe: Path, data: Path, done: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    start(recipe, data, out, "--fusion.seeds", "[1]")
    first = (out / "seed-1" / "model.safetensors").stat().st_mtime_ns
    summary = start(recipe, data, out)
    assert (out / "seed-1" / "model.safetensors").stat().st_mtime_ns == first
    assert set(summary["seeds"]) == {"1", "2"}
    assert summary == summary_of(done)


def test_trains_from_a_store(recipe: Path, tmp_path: Path) -> None:
    broken = row(9, "train", audio=held(b"no sound"))
    data, out = store(tmp_path / "store", [*rows(), broken]), tmp_path / "out"
    more = ("--fusion.seeds", "[1]", "--fusion.training.epochs", "2", "--fusion.extract.mel_bands", "12")
    with pytest.raises(RunError, match=r"1 rows failed, --max-failures is 0; see .*failures[.]jsonl"):
        start(recipe, data, out, *more, "--max-failures", "0")
    summary = start(recipe, data, out, *more)
    assert summary["rows"] == {"train": 4, "valid": 2, "test": 2, "failed": 1}
    assert json.loads((out / "failures.jsonl").read_text())["id"] == "made/train/9"
    assert len(list((out / "features").iterdir())) == 1
    table = pyarrow.parquet.read_table(out / "predictions.parquet")
    assert table["id"].to_pylist()[-2:] == ["made/test/0", "made/test/1"]


def test_runs_may_share_the_features_of_a_store(recipe: Path, tmp_path: Path) -> None:
    data, cache = store(tmp_path / "store", rows()), tmp_path / "cache"
    more = ("--fusion.seeds", "[1]", "--fusion.training.epochs", "1", "--fusion.feature_cache")
    first = start(recipe, data, tmp_path / "a", *more, str(cache))
    (kept,) = cache.iterdir()
    made = kept.stat().st_mtime_ns
    other = ("--fusion.losses.statistics", "0.2")
    start(recipe, data, tmp_path / "b", *more, str(cache), *other)
    assert [path.stat().st_mtime_ns for path in cache.iterdir()] == [made]
    assert start(recipe, data, tmp_path / "c", *more, "none") == first
    assert not (tmp_path / "c" / "features").exists()
    assert start(recipe, data, tmp_path / "c", *more, str(cache)) == first  # which changes no result


def test_a_folder_of_other_settings_or_data_is_refused(
    recipe: Path, data: Path, done: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="other settings or data"):
        start(recipe, data, done, "--fusion.losses.statistics", "0.2")
    with pytest.raises(UsageError, match="other settings or data"):
        start(recipe, write(tmp_path / "other.pkl", mmsa_content(seed=9)), done)


def test_trains_on_a_subset_of_modalities(recipe: Path, data: Path, tmp_path: Path) -> None:
    more = ("--fusion.modalities", "[audio, video]", "--fusion.seeds", "[1]", "--fusion.training.epochs", "2")
    summary = start(recipe, data, tmp_path / "out", *more)
    assert set(summary["seeds"]["1"]["modality_weights"]) == {"audio", "video"}
    assert summary["spread"]["test"]["MAE"] is None


WRONG = {
    "--fusion.conflict.threshold 0.5": "fusion.conflict.threshold: got 0.5; it takes a value at least 1",
    "--fusion.network.width 15": "fusion.network.width: got 15 with 2 heads",
    "--fusion.losses.diversity -1": "fusion.losses.diversity: got -1.0; it takes a weight of at least 0",
    "--fusion.training.epochs 0": "fusion.training.epochs: got 0; it takes a value above 0",
    "--fusion.seeds [1,1]": "fusion.seeds: got .*; it takes one or more different numbers",
    "--fusion.seeds [-1]": "fusion.seeds: got .*; it takes one or more different numbers, 0 to 2",
    "--fusion.seeds [1,5000000000]": "fusion.seeds: got .*; it takes one or more different numbers, 0 to 2",
    "--fusion.modalities [text,text]": "fusion.modalities: got .*; it takes one to three different ones",
    "--fusion.extract.frame_px 60": "fusion.extract.frame_px: got 60; it takes a multiple of cells",
    "--fusion.extract.audio_fps 40000": "fusion.extract.audio_fps: got 40000.0; it takes at most 16000",
    "--fusion.extract.audio_fps .nan": "fusion.extract.audio_fps: got nan; it takes at most 16000",
    "--fusion.training.precision fp16": "fusion.training.precision: got fp16, which needs a GPU; take no or",
    f"--fusion.feature_cache {__file__}": "fusion.feature_cache: .* is a file; takes a folder",
    "--fusion.losses.auxiliary 0 --fusion.balance.method ogm_ge": "got 0 with fusion.balance.method ogm_ge",
}


@pytest.mark.parametrize("arguments", WRONG)
def test_names_a_wrong_setting(recipe: Path, data: Path, tmp_path: Path, arguments: str) -> None:
    with pytest.raises(UsageError, match=WRONG[arguments].replace(".", "[.]").replace("[.]*", ".*")):
        start(recipe, data, tmp_path / "out", *arguments.split())


def test_names_data_that_is_not_there(recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="neither a store nor a file of features"):
        start(recipe, tmp_path / "nowhere.pkl", tmp_path / "out")


def test_a_refused_file_leaves_no_folder(recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(FeatureError):
        start(recipe, write(tmp_path / "list.pkl", [1]), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_load_names_a_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no model[.]safetensors there"):
        load(tmp_path)

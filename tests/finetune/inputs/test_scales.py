"""Rows of several scales are refused wherever they would meet, before a model is looked for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finetune import evaluation, label_probability
from finetune.__main__ import main as finetune
from finetune.fusion.features.extract import from_store
from finetune.fusion.settings import ExtractSettings
from finetune.inputs.scales import common_scale
from pipelines.errors import RunError, UsageError
from pipelines.store import StoreReader
from tests import tiny

SIMS: dict[str, Any] = {"scale": "sims", "label": 0.5}
Store = Callable[..., Path]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Five rows to train on, two to validate, two to test; the last of some splits is of CH-SIMS."""

    def make(*splits: str) -> Path:
        counts = {"train": 5, "valid": 2, "test": 2}
        rows = [tiny.row(n, split) for split, count in counts.items() for n in range(count)]
        last = {f"tiny/{split}/{counts[split] - 1}" for split in splits}
        return tiny.store(tmp_path / "store", [row | SIMS if row["id"] in last else row for row in rows])

    return make


@pytest.mark.parametrize(
    ("split", "more"),
    [("train", []), ("valid", []), ("test", []), ("train", ["--dry-run"]), ("test", ["--dry-run"])],
)
def test_a_training_takes_rows_of_one_scale(
    store: Store, tmp_path: Path, split: str, more: list[str]
) -> None:
    arguments = ["--data", str(store(split)), "--out", str(tmp_path / "out"), "--finetune.best_by", "MAE"]
    arguments += ["--finetune.model", "nowhere", *more]
    with pytest.raises((RunError, UsageError), match=rf"scales are .*1 of sims \(tiny/{split}/\d\)"):
        finetune(arguments)
    assert not (tmp_path / "out").exists()


def test_splits_that_are_each_of_one_scale_must_be_of_the_same(store: Store, tmp_path: Path) -> None:
    rows = [tiny.row(n, split) for split in ("train", "valid") for n in range(4)]
    data = tiny.store(tmp_path / "apart", [*rows, tiny.row(0, "test", **SIMS)])
    wanted = (
        r"8 of mosi \(tiny/train/0, tiny/train/1, tiny/train/2 and 5 more\); 1 of sims \(tiny/test/0\);"
        " takes one of mosi, sims, binary for all rows .*; import each corpus into a store of its own"
    )
    with pytest.raises(RunError, match=wanted):
        finetune(["--data", str(data), "--out", str(tmp_path / "out"), "--finetune.best_by", "MAE"])
    assert not (tmp_path / "out").exists()


def test_variants_count_where_they_are_trained_on(tmp_path: Path) -> None:
    rows = [tiny.row(0), tiny.variant(0, 0.5, **SIMS), tiny.row(0, "test")]
    data = tiny.store(tmp_path / "store", rows)
    arguments = ["--data", str(data), "--out", str(tmp_path / "out"), "--finetune.epochs", "1"]
    with pytest.raises(RunError, match="1 of sims"):
        finetune(arguments)
    finetune([*arguments, "--finetune.arm", "originals"])
    assert json.loads((tmp_path / "out" / "model.json").read_text())["scale"] == "mosi"


def test_labels_whose_probability_is_asked_are_of_one_scale(store: Store, tmp_path: Path) -> None:
    arguments = ["--finetune.head", "levels", "--finetune.model", "nowhere"]
    with pytest.raises(RunError, match=r"4 of mosi .*; 1 of sims \(tiny/train/4\)"):
        label_probability.main(
            ["--data", str(store("train")), "--out", str(tmp_path / "labels.parquet"), *arguments]
        )


def test_a_model_is_evaluated_on_its_own_scale(store: Store, tmp_path: Path) -> None:
    """Its base model cannot be loaded, and is not looked for."""
    record = {"scale": "sims", "config": {"model": "nowhere"}, "seed": 0}
    (tmp_path / "model.json").write_text(json.dumps(record))
    arguments = ["--model", str(tmp_path), "--data"]
    with pytest.raises(UsageError, match=r"has the scale mosi; .* rates on sims"):
        evaluation.main([*arguments, str(store())])
    with pytest.raises(RunError, match=r"1 of mosi .*; 1 of sims \(tiny/test/1\)"):
        evaluation.main([*arguments, str(store("test"))])


@pytest.mark.parametrize("scale", [None, "mosi"])
def test_the_fusion_model_takes_rows_of_one_scale(store: Store, scale: str | None) -> None:
    """Naming a scale does not make one of several."""
    with pytest.raises(RunError, match=r"8 of mosi .*; 1 of sims \(tiny/train/4\)"):
        from_store(store("train"), ("text",), ExtractSettings(), scale)


def test_a_scale_that_is_not_known_is_refused(tmp_path: Path) -> None:
    reader = StoreReader(tiny.store(tmp_path, [tiny.row(0, scale="stars"), tiny.row(1, scale=None)]))
    with pytest.raises(RunError, match=r"1 of stars \(tiny/train/0\).* takes one of mosi, sims, binary"):
        common_scale(reader, ["tiny/train/0"])
    with pytest.raises(RunError, match=r"1 of None \(tiny/train/1\)"):
        common_scale(reader, ["tiny/train/1"])

"""How probable an untuned model finds the labels, row by row."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from finetune.label_probability import main
from finetune.model.heads import CLASSES
from pipelines.errors import UsageError
from tests import tiny


def asked(store: Path, thinker: Path, out: Path, **settings: Any) -> dict[str, float]:
    chosen = {"model": thinker, "head": "levels"} | settings
    options = [part for name, value in chosen.items() for part in (f"--finetune.{name}", str(value))]
    main(["--data", str(store), "--out", str(out), *options])
    rows = pyarrow.parquet.read_table(out).to_pylist()
    return {row["id"]: row["log_probability"] for row in rows}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [tiny.row(0), tiny.variant(0, 0.5, label=tiny.row(0)["label"]), tiny.row(1), tiny.row(2, "test")]
    return tiny.store(tmp_path_factory.mktemp("store"), rows)


@pytest.mark.parametrize("head", ["levels", "answer"])
def test_each_training_row_has_one_and_no_other_row(
    head: str, store: Path, tiny_thinker: Path, tmp_path: Path
) -> None:
    found = asked(store, tiny_thinker, tmp_path / "one.parquet", head=head)
    assert list(found) == [tiny.row(0)["id"], tiny.variant(0, 0.5)["id"], tiny.row(1)["id"]]
    assert all(-50 < value < 0 for value in found.values())
    one_by_one = asked(store, tiny_thinker, tmp_path / "again.parquet", head=head, batch_size=1)
    assert one_by_one == pytest.approx(found, abs=1e-4)


def test_over_all_levels_the_probabilities_sum_to_one(tiny_thinker: Path, tmp_path: Path) -> None:
    levels = CLASSES["mosi"]
    rows = [
        tiny.row(0) | {"id": f"level{level}", "source_id": f"level{level}", "label": level}
        for level in levels
    ]
    store = tiny.store(tmp_path / "store", rows)
    found = asked(store, tiny_thinker, tmp_path / "labels.parquet")
    assert sum(math.exp(value) for value in found.values()) == pytest.approx(1, abs=1e-4)


def test_a_read_out_that_is_untrained_is_refused(store: Path, tiny_thinker: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"finetune\.head: got regression, .*; take levels or answer"):
        asked(store, tiny_thinker, tmp_path / "labels.parquet", head="regression")


def test_no_other_file_is_replaced(store: Path, tiny_thinker: Path, tmp_path: Path) -> None:
    shard = next(store.glob("data/*.parquet"))
    with pytest.raises(UsageError, match=f"^--out: {shard.parent} is inside --data"):
        asked(store, tiny_thinker, shard)
    other = tmp_path / "predictions.parquet"
    other.write_bytes(b"mine")
    with pytest.raises(UsageError, match=f"^--out: {other} exists; --overwrite replaces it"):
        asked(store, tiny_thinker, other)
    assert other.read_bytes() == b"mine"

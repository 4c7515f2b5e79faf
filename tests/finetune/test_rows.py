"""Which rows are trained on, and with which weights."""

from __future__ import annotations

from pathlib import Path

import pytest

from finetune.objective import WeightError
from finetune.rows import select
from pipelines.errors import RunError
from pipelines.store import StoreReader
from tests import tiny

WEIGHTS = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> StoreReader:
    rows = [tiny.row(n) for n in range(6)] + [tiny.variant(n, weight) for n, weight in enumerate(WEIGHTS)]
    return StoreReader(tiny.store(tmp_path_factory.mktemp("store"), [*rows, tiny.row(9, "test")]))


def test_weighted_takes_the_stores_weights(reader: StoreReader) -> None:
    chosen = select(reader, "weighted", 0)
    assert chosen.weights == pytest.approx([1] * 6 + WEIGHTS)
    assert len(chosen) == 12


def test_uniform_counts_every_row_alike(reader: StoreReader) -> None:
    assert select(reader, "uniform", 0).weights == [1] * 12


def test_originals_leave_variants_out(reader: StoreReader) -> None:
    assert set(select(reader, "originals", 0).kinds) == {"original"}


def test_shuffled_deals_the_variants_weights_out_anew(reader: StoreReader) -> None:
    chosen = select(reader, "shuffled", 0)
    assert chosen.weights[:6] == [1] * 6
    assert sorted(chosen.weights[6:]) == pytest.approx(WEIGHTS)
    assert chosen.weights[6:] != pytest.approx(WEIGHTS)
    assert chosen.weights == select(reader, "shuffled", 0).weights


@pytest.mark.parametrize("weight", [None, float("nan"), -1.0])
def test_bad_weights_are_refused_by_id(tmp_path: Path, weight: float | None) -> None:
    reader = StoreReader(tiny.store(tmp_path, [tiny.row(0), tiny.variant(0, weight)]))
    with pytest.raises(WeightError, match=r"^tiny/train/0#video-0: "):
        select(reader, "weighted", 0)
    assert select(reader, "uniform", 0).weights == [1, 1]


def test_a_store_without_training_rows_is_refused(tmp_path: Path) -> None:
    reader = StoreReader(tiny.store(tmp_path, [tiny.row(0, "test")]))
    with pytest.raises(RunError, match="no row of the split train"):
        select(reader, "weighted", 0)


def test_missing_labels_are_refused_by_id(tmp_path: Path) -> None:
    reader = StoreReader(tiny.store(tmp_path, [tiny.row(0), tiny.row(1, label=None)]))
    with pytest.raises(RunError, match=r"^tiny/train/1: the label is None"):
        select(reader, "weighted", 0)

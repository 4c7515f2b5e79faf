"""Which rows are trained on, and with which weights."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from finetune.inputs.dataset import select
from finetune.objective import WeightError
from pipelines.errors import RunError, UsageError
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


KINDS = ("video", "audio", "both", "classic")


@pytest.fixture(scope="module")
def every_kind(tmp_path_factory: pytest.TempPathFactory) -> StoreReader:
    rows = [tiny.row(n) for n in range(3)]
    rows += [tiny.variant(n, 0.1 * (n + 1), kind) for n in range(3) for kind in KINDS[:3]]
    return StoreReader(tiny.store(tmp_path_factory.mktemp("store"), rows))


@pytest.mark.parametrize("kind", KINDS[:3])
def test_one_kind_of_variants_beside_the_originals(every_kind: StoreReader, kind: str) -> None:
    chosen = select(every_kind, "weighted", 0, (kind,))
    assert Counter(chosen.kinds) == {"original": 3, kind: 3}
    assert chosen.weights == pytest.approx([1] * 3 + [0.1, 0.2, 0.3])
    assert select(every_kind, "uniform", 0, (kind,)).weights == [1] * 6
    assert sorted(select(every_kind, "shuffled", 0, (kind,)).weights) == pytest.approx(
        [0.1, 0.2, 0.3, 1, 1, 1]
    )
    assert len(select(every_kind, "originals", 0, (kind,))) == 3


def test_several_kinds_and_by_default_all(every_kind: StoreReader) -> None:
    two = select(every_kind, "weighted", 0, ("both", "video"))
    assert Counter(two.kinds) == {"original": 3, "video": 3, "both": 3}
    assert len(select(every_kind, "weighted", 0)) == 12


def test_a_kind_that_the_store_lacks_is_refused(every_kind: StoreReader, tmp_path: Path) -> None:
    """Or the arm would be one of originals alone, without a word."""
    with pytest.raises(
        UsageError, match=r"finetune.kinds: got classic; .* of the kinds: video, audio, both$"
    ):
        select(every_kind, "weighted", 0, ("classic",))
    originals = StoreReader(tiny.store(tmp_path, [tiny.row(0)]))
    with pytest.raises(UsageError, match=r"finetune.kinds: got video, audio; .* of the kinds: none$"):
        select(originals, "uniform", 0, ("video", "audio"))
    assert len(select(originals, "weighted", 0)) == 1


@pytest.mark.parametrize("weight", [None, float("nan"), -1.0])
def test_bad_weights_are_refused_by_id(tmp_path: Path, weight: float | None) -> None:
    reader = StoreReader(tiny.store(tmp_path, [tiny.row(0), tiny.variant(0, weight)]))
    with pytest.raises(WeightError, match=r"^tiny/train/0#video-0: "):
        select(reader, "weighted", 0)
    assert select(reader, "uniform", 0).weights == [1, 1]


def test_rows_that_all_weigh_0_are_refused(tmp_path: Path) -> None:
    reader = StoreReader(tiny.store(tmp_path / "store", [tiny.row(0, weight=0.0), tiny.variant(0, 0.0)]))
    with pytest.raises(WeightError, match=r"/store: all 2 training rows have the weight 0, so nothing"):
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

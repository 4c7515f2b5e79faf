"""The training rows: which rows of a store, with which weight, in which order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from finetune.inputs.batch import Encoded, RowEncoder, collate
from finetune.objective import check_weights
from finetune.settings import Arm
from pipelines.errors import RunError, UsageError
from pipelines.row import KINDS, VARIANT_KINDS
from pipelines.store import StoreReader

STAND_IN = len(KINDS)
"""The kind of a row that is there only to give a rank something to compute."""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The training rows of a store."""

    ids: list[str]
    labels: list[float]
    weights: list[float]
    kinds: list[str]

    def __len__(self) -> int:
        return len(self.ids)


def select(reader: StoreReader, arm: Arm, seed: int, kinds: Sequence[str] = VARIANT_KINDS) -> Selection:
    """The training rows of a store under an arm: originals, and variants of these kinds.

    Raises:
        UsageError: If kinds are singled out and the store has variants, but none of theirs.
        RunError: If there is no row, one has no label, or a weight cannot be used.
    """
    columns = ["id", "label", "weight", "kind", "split"]
    rows = [row for row in reader.table.select(columns).to_pylist() if row["split"] == "train"]
    present = {row["kind"] for row in rows}
    if arm == "originals":
        kinds = ()
    elif set(kinds) != set(VARIANT_KINDS) and not present & set(kinds):  # it would train on originals alone
        variants = ", ".join(kind for kind in VARIANT_KINDS if kind in present) or "none"
        raise UsageError(
            f"finetune.kinds: got {', '.join(kinds)};"
            f" the variants in {reader.directory} are of the kinds: {variants}"
        )
    rows = [row for row in rows if row["kind"] in ("original", *kinds)]
    if not rows:
        raise RunError(f"{reader.directory}: no row of the split train to learn from (arm {arm})")
    check_labels(rows)
    return Selection(
        ids=[row["id"] for row in rows],
        labels=[row["label"] for row in rows],
        weights=_weights(reader.directory, rows, arm, seed),
        kinds=[row["kind"] for row in rows],
    )


def check_labels(rows: Sequence[dict[str, Any]]) -> None:
    """Refuse rows without a finite label.

    Raises:
        RunError: At the first such row.
    """
    for row in rows:
        if row["label"] is None or not np.isfinite(row["label"]):
            raise RunError(f"{row['id']}: the label is {row['label']}; every row needs a finite one")


def _weights(store: Path, rows: list[dict[str, Any]], arm: Arm, seed: int) -> list[float]:
    if arm == "uniform":
        return [1.0] * len(rows)
    given = [row["weight"] for row in rows]
    check_weights(store, (row["id"] for row in rows), given)
    if arm == "shuffled":
        variants = [index for index, row in enumerate(rows) if row["kind"] != "original"]
        dealt = np.random.default_rng(seed).permutation(variants)
        shuffled = list(given)
        for index, other in zip(variants, dealt, strict=True):
            shuffled[index] = given[other]
        return shuffled
    return given


class EncodedRows:
    """Rows of a store as inputs, each encoded when it is first needed and kept while there is room."""

    def __init__(self, reader: StoreReader, encoder: RowEncoder, cache_mb: int) -> None:
        self.reader, self.encoder = reader, encoder
        self.room = cache_mb * 2**20
        self._kept: dict[str, Encoded] = {}

    def many(self, ids: Sequence[str]) -> list[Encoded]:
        """Rows by their ids."""
        missing = [row_id for row_id in dict.fromkeys(ids) if row_id not in self._kept]
        rows = [self.reader.row(self.reader.index_of(row_id)) for row_id in missing]
        fresh = dict(zip(missing, self.encoder.many(rows), strict=True))
        for row_id, encoded in fresh.items():
            if encoded.nbytes <= self.room:
                self.room -= encoded.nbytes
                self._kept[row_id] = encoded
        return [fresh[row_id] if row_id in fresh else self._kept[row_id] for row_id in ids]


class TrainingRows(Dataset[dict[str, Any]]):
    """Items for a `DataLoader`: an input with its label, weight, kind and index.

    An index from `len(self)` on is a filler, which completes the last step of an epoch, so that each rank
    has as many batches as the others and no row counts twice. Fillers and rows of weight 0 are left out of
    a batch: they would add 0 times their gradient, which is NaN where a hidden state is infinite. If nothing
    else is in a batch, a row that counts elsewhere stands in with weight 0, since each rank must compute
    something.
    """

    def __init__(
        self,
        selection: Selection,
        inputs: EncodedRows,
        answer: Callable[[float], list[int]] | None = None,
    ) -> None:
        self.selection, self.inputs, self.answer = selection, inputs, answer
        self._counting = [index for index, weight in enumerate(selection.weights) if weight > 0]

    def __len__(self) -> int:
        return len(self.selection)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: list[int]) -> list[dict[str, Any]]:
        """The items of a batch, as a `DataLoader` asks for them."""
        weights = self.selection.weights
        counted = [index for index in indices if index < len(self) and weights[index] > 0]
        rows = counted or [(self._counting or [0])[0]]
        encoded = self.inputs.many([self.selection.ids[index] for index in rows])
        return [self._item(index, one, bool(counted)) for index, one in zip(rows, encoded, strict=True)]

    def _item(self, index: int, encoded: Encoded, counts: bool) -> dict[str, Any]:
        chosen = self.selection
        return {
            "encoded": encoded.answered(self.answer(chosen.labels[index])) if self.answer else encoded,
            "label": chosen.labels[index],
            "weight": chosen.weights[index] if counts else 0.0,
            "kind": KINDS.index(chosen.kinds[index]) if counts else STAND_IN,
            "row": index,
        }


class EpochOrder(Sampler[int]):
    """A new order of the rows in each epoch, drawn from (seed, epoch), filled up to complete steps.

    Attributes:
        epoch: The epoch of the next order.
    """

    def __init__(self, rows: int, step_size: int, seed: int) -> None:
        self.rows, self.seed = rows, seed
        self.length = -(-rows // step_size) * step_size
        self.epoch = 0

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[int]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.rows)
        yield from order.tolist()
        yield from range(self.rows, self.length)


@dataclass(frozen=True)
class Collator:
    """Collates items of `TrainingRows`."""

    pad_id: int

    def __call__(self, items: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        batch = collate([item["encoded"] for item in items], self.pad_id)
        batch["labels"] = torch.tensor([item["label"] for item in items], dtype=torch.float32)
        batch["weights"] = torch.tensor([item["weight"] for item in items], dtype=torch.float32)
        batch["kinds"] = torch.tensor([item["kind"] for item in items])
        batch["rows"] = torch.tensor([item["row"] for item in items])
        return batch

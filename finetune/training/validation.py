"""The rows that are rated before, during and after a training, their ratings and metrics.

The processes of a launcher share the rows: they take turns by batches, and all of them get every rating.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import distributed

from finetune.divergence import check_ratings
from finetune.inputs.batch import collate
from finetune.inputs.dataset import EncodedRows, check_labels
from finetune.inputs.scales import common_scale, middle_if_unparsable
from finetune.model.regressor import SentimentModel
from finetune.msa_metrics import Definition, definition_of, measured
from finetune.settings import BestBy
from pipelines.atomic import write_table
from pipelines.errors import RunError, UsageError
from pipelines.store import StoreReader

Row = dict[str, Any]


def rated_rows(reader: StoreReader, split: str) -> list[Row]:
    """The originals of a split: id, group, corpus, label, scale.

    Raises:
        RunError: If there is none, their scales differ, or a label is missing.
    """
    columns = ["id", "kind", "split", "group", "corpus", "label", "scale"]
    rows = [
        row
        for row in reader.table.select(columns).to_pylist()
        if row["split"] == split and row["kind"] == "original"
    ]
    if not rows:
        raise RunError(f"{reader.directory}: no originals in the split {split}")
    common_scale(reader, (row["id"] for row in rows))
    check_labels(rows)
    return rows


def validation_rows(reader: StoreReader, best_by: BestBy) -> list[Row]:
    """The originals of the split valid, by which the best epoch is chosen.

    Raises:
        UsageError: If the store has none, or the metric is not defined for them.
    """
    try:
        rows = rated_rows(reader, "valid")
    except RunError as error:
        raise UsageError(
            f"finetune.best_by: got {best_by}, which takes originals in the split valid ({error})"
        ) from error
    known = metric_names(_definition(rows))
    if best_by not in known:
        raise UsageError(
            f"finetune.best_by: got {best_by}; for {rows[0]['corpus']} on the scale {rows[0]['scale']} it"
            f" takes none, {', '.join(known)}"
        )
    return rows


def metric_names(definition: Definition) -> list[str]:
    """The metrics that a definition has."""
    return list(measured(definition, np.array([0.0, 1.0]), np.array([0.0, 1.0])))


def _definition(rows: Sequence[Row]) -> Definition:
    """The definition of the rows' metrics."""
    return definition_of(rows[0]["scale"], {row["corpus"] for row in rows})


def predict(model: SentimentModel, inputs: EncodedRows, ids: Sequence[str], batch_size: int) -> np.ndarray:
    """A model's ratings of rows, on the labels' scale, (N,), float64."""
    return np.array(computed(model, model.rate, inputs, ids, batch_size))


def computed(
    model: SentimentModel,
    compute: Callable[..., torch.Tensor],
    inputs: EncodedRows,
    ids: Sequence[str],
    batch_size: int,
) -> list[Any]:
    """The results of `compute`, a method of the model, for rows, (N, ...), in evaluation mode."""
    device = next(model.parameters()).device
    pad_id = inputs.encoder.processor.tokenizer.pad_token_id

    def of_batch(batch_ids: Sequence[str]) -> list[Any]:
        batch = collate(inputs.many(batch_ids), pad_id)
        return compute(**{name: value.to(device) for name, value in batch.items()}).tolist()

    was_training = model.training
    model.eval()
    with torch.no_grad():
        results = taken_in_turns(ids, batch_size, of_batch)
    model.train(was_training)
    check_ratings(model, ids, results)
    return results


def taken_in_turns(
    ids: Sequence[str], batch_size: int, compute: Callable[[Sequence[str]], list[Any]]
) -> list[Any]:
    """The results of `compute` for rows, batch by batch, each batch by one rank.

    The batches are those of a single process, whatever the number of ranks, so the results are the same, too.

    Returns:
        A value for each row, (N,), in their order, in all ranks.
    """
    rank, ranks = 0, 1
    if distributed.is_initialized():
        rank, ranks = distributed.get_rank(), distributed.get_world_size()
    batches = [ids[start : start + batch_size] for start in range(0, len(ids), batch_size)]
    rounds = -(-len(batches) // ranks)
    # Repeated batches fill the last round: where the model is sharded, all ranks must call it equally often.
    own = [compute(batches[turn % len(batches)]) for turn in range(rank, rounds * ranks, ranks)]
    by_rank: list[Any] = [own] * ranks
    if ranks > 1:
        distributed.all_gather_object(by_rank, own)
    in_order = [batch for turn in zip(*by_rank, strict=True) for batch in turn]
    return [value for batch in in_order[: len(batches)] for value in batch]


def metrics_of(rows: Sequence[Row], predictions: np.ndarray) -> dict[str, Any]:
    """The metrics of the rows' scale or corpus, with the number of rows; None where one has no value.

    A rating that is NaN, because the written answer was no number, counts as the middle of the scale; their
    number is `unparsable`.
    """
    labels = np.array([row["label"] for row in rows])
    unparsable = np.isnan(predictions)
    predictions = middle_if_unparsable(predictions, rows[0]["scale"])
    metrics = measured(_definition(rows), predictions, labels)
    values = {name: None if np.isnan(value) else value for name, value in metrics.items()}
    counted = {"unparsable": int(unparsable.sum())} if unparsable.any() else {}
    return {"rows": len(rows), **counted, **values}


def write_predictions(path: Path, rows: Sequence[Row], predictions: np.ndarray) -> None:
    """A table of predictions with what is needed to compare them with another model's."""
    import pyarrow

    columns = {name: [row[name] for row in rows] for name in ("id", "split", "group", "corpus", "scale")}
    numbers = {"label": [row["label"] for row in rows], "prediction": predictions}
    floats = {name: pyarrow.array(values, pyarrow.float32()) for name, values in numbers.items()}
    write_table(path, pyarrow.table(columns | floats))

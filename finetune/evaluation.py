"""How well a fine-tuned model does on a store: `python -m finetune.evaluation --model DIR --data STORE`.

Writes `metrics.json` and `predictions.parquet` beside the model or to `--out`, and with `--against DIR2` also
`comparison.json`. Results of other rows that are there are replaced with `--overwrite` only. Originals are
rated, each once; weights are not used. Under `accelerate launch -m` the processes share the rows.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.atomic import DamagedFile, write_json
from pipelines.device import join_group, leave_group, pick, share
from pipelines.durable.checkpoints import read_json_object
from pipelines.errors import RunError, UsageError, call
from pipelines.row import SPLITS
from pipelines.running.folder_lock import FolderLock
from pipelines.running.outputs import check_content, check_output
from pipelines.store import StoreReader

if TYPE_CHECKING:
    import numpy as np


def main(argv: list[str]) -> None:
    """Evaluate a model's folder on a store; the processes of a launcher share the rows."""
    options = _options(argv)
    join_group(pick(options.device))
    try:
        with FolderLock(options.out or options.model):
            evaluate(options)
    finally:
        leave_group()


def evaluate(options: argparse.Namespace) -> None:
    """Rate rows, and compare two models if asked to; the first process writes and prints."""
    from finetune.comparison import FILE, compare, paired, table
    from finetune.model.saved_model import RESULTS, vouch_again
    from finetune.training.validation import metrics_of, rated_rows, write_predictions

    out = options.out or options.model
    key = "--out" if options.out else "--model"
    check_output(out, {"--data": options.data}, key)
    check_content(out, "a fine-tuned model", key)
    reader = StoreReader(options.data)
    rows = rated_rows(reader, options.split)
    if not options.overwrite:
        _check_loss(out, options, rows)
    known = _metrics(out, options.overwrite)
    other = _known_predictions(options.against, rows) if options.against else None
    predictions = _rate(options.model, reader, rows, options)
    if options.against and other is None:
        other = _rate(options.against, reader, rows, options)
    if share().rank:
        return
    metrics = metrics_of(rows, predictions)
    known[options.split] = known.get(options.split, {}) | {"after": metrics}
    write_json(out / "metrics.json", known)
    write_predictions(out / "predictions.parquet", rows, predictions)
    if out.resolve() == options.model.resolve():
        vouch_again(out, RESULTS)
    print(json.dumps({options.split: metrics}, indent=2))
    if other is not None:
        own, theirs = (
            [row | {"prediction": float(rating)} for row, rating in zip(rows, ratings, strict=True)]
            for ratings in (predictions, other)
        )
        comparison = compare(paired(own, theirs))
        about = {"model": str(options.model), "against": str(options.against), "split": options.split}
        write_json(out / FILE, about | comparison)
        print(table(comparison))


def _check_loss(out: Path, options: argparse.Namespace, rows: list[dict[str, Any]]) -> None:
    """Refuse to replace the results of other rows.

    Raises:
        UsageError: Naming what would be lost.
    """
    from finetune.comparison import read_predictions

    path, metrics, lost = out / "predictions.parquet", out / "metrics.json", None
    try:
        known = [_identity(row) for row in read_predictions(path)] if path.is_file() else []
        rated = [_identity(row) for row in rows]
        if sorted(known) != sorted(rated) and known:
            other = min(set(known) - set(rated), default=known[0])
            lost = f"{path} holds ratings of other rows, {len(known)} in all, such as {other[0]}"
        elif not known and options.split in (read_json_object(metrics) if metrics.is_file() else {}):
            lost = (
                f"{metrics} has metrics of the split {options.split}, and no {path.name} says of which rows"
            )
    except RunError as error:
        lost = str(error)
    if lost:
        raise UsageError(f"--out: {lost}; --overwrite replaces it, or write elsewhere with --out DIR")


def _metrics(out: Path, overwrite: bool) -> dict[str, Any]:
    """The metrics by split; a broken file, or a lost one, is replaced only if that was asked for."""
    from finetune.model.saved_model import vouched

    path = out / "metrics.json"
    if not path.exists() and path.name not in vouched(out):
        return {}
    try:
        metrics = read_json_object(path)
        if not all(isinstance(each, dict) for each in metrics.values()):
            raise DamagedFile(f"{path} has something else than metrics by split")
        return metrics
    except DamagedFile as error:
        if overwrite:
            return {}
        raise UsageError(f"--out: {error}; --overwrite replaces it") from error


def _identity(row: dict[str, Any]) -> tuple[str, ...]:
    """What tells one rated row from another."""
    return tuple(str(row[name]) for name in ("id", "group", "corpus", "scale", "label"))


def _rate(
    directory: Path, reader: StoreReader, rows: list[dict[str, Any]], options: argparse.Namespace
) -> np.ndarray:
    """Ratings of a store's rows by the model in a folder."""
    from finetune.inputs.dataset import EncodedRows
    from finetune.inputs.shown_modalities import check_shown
    from finetune.model.saved_model import open_model, read_record
    from finetune.training.validation import predict

    scale = read_record(directory)["scale"]  # before the model is loaded
    if rows[0]["scale"] != scale:
        raise UsageError(
            f"--data: {options.data} has the scale {rows[0]['scale']}; {directory} rates on {scale}"
        )
    model, encoder, record = open_model(directory, options.device)
    ids, inputs = [row["id"] for row in rows], EncodedRows(reader, encoder, 0)
    named = record["config"]["modalities"] is not None
    check_shown(reader, {f"originals of {options.split}": ids}, sorted(encoder.modalities), named=named)
    return predict(model, inputs, ids, options.batch_size)


def _known_predictions(directory: Path, rows: list[dict[str, Any]]) -> np.ndarray | None:
    """A model's stored ratings of exactly these rows; None if the model must be run.

    Raises:
        UsageError: If the folder holds neither such ratings nor a model.
    """
    from finetune.comparison import paired, read_predictions
    from finetune.model.saved_model import read_record

    path = directory / "predictions.parquet"
    if path.is_file():
        try:
            return paired([row | {"prediction": 0.0} for row in rows], read_predictions(path)).against
        except RunError as error:
            if share().rank == 0:
                print(f"{path} is of other rows ({error}); the model is evaluated", flush=True)
    read_record(directory, "--against")
    return None


def _options(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="daq-msa evaluate", description=__doc__, allow_abbrev=False)
    parser.add_argument("--model", type=Path, required=True, help="folder of a fine-tuned model")
    parser.add_argument("--data", type=Path, required=True, help="a store")
    parser.add_argument("--split", choices=SPLITS, default="test", help="rated split (default: test)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where to write (default: beside the model)")
    parser.add_argument("--overwrite", action="store_true", help="replace results of other rows there")
    parser.add_argument("--against", type=Path, metavar="DIR2", help="folder of a model to compare with")
    parser.add_argument("--batch_size", type=int, default=8, help="rows of a forward pass (default: 8)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (default: auto)")
    options = parser.parse_args(argv)
    if options.batch_size < 1:
        raise UsageError(f"--batch_size: got {options.batch_size}, takes 1 or more")
    return options


if __name__ == "__main__":
    call(main)

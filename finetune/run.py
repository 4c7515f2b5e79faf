"""The stage: reads a scored store, trains an adapter and a head, and writes them with their metrics.

`run` tells the whole story; the functions below it are in the order in which it calls them.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import TrainingArguments
from transformers.trainer_callback import PrinterCallback

from finetune.inputs.dataset import Collator, EncodedRows, Selection, TrainingRows, select
from finetune.inputs.scales import common_scale
from finetune.inputs.shown_modalities import check_shown, shown_modalities
from finetune.model.fsdp import load_in_every_process
from finetune.model.head_init import start_head
from finetune.model.loading import load_family
from finetune.model.regressor import ADAPTER_CONFIG, ADAPTER_FILE, HEAD_FILE, SentimentModel
from finetune.model.saved_model import (
    CARD,
    RESULTS,
    base_dtype,
    build,
    dtype_description,
    store_summary,
    write_card,
    write_record,
)
from finetune.objective import effective_sample_size
from finetune.settings import BestBy, FinetuneConfig
from finetune.tower_cache.frozen_towers import KeepTowers, flush, frozen_towers
from finetune.training.agreement import agreed
from finetune.training.arguments import idle_gpus_hint, training_arguments
from finetune.training.milestones import Milestones
from finetune.training.modality_conflict import ModalityConflict
from finetune.training.resuming import check_ranks, checkpoint_to_resume
from finetune.training.run_folder import CHECKPOINTS, claim_folder, claim_of, finished
from finetune.training.trainer import WeightedTrainer
from finetune.training.training_log import TrainingLog
from finetune.training.validation import (
    computed,
    metrics_of,
    predict,
    rated_rows,
    validation_rows,
    write_predictions,
)
from pipelines import provenance
from pipelines.atomic import write_json
from pipelines.device import share
from pipelines.durable.checkpoints import read_json_object, writing
from pipelines.running.folder_lock import alone_in_its_folder
from pipelines.running.outputs import check_output
from pipelines.settings import Invocation
from pipelines.store import StoreReader, committed_generation

Rows = list[dict[str, Any]]


@alone_in_its_folder("a fine-tuned model")
def run(invocation: Invocation[FinetuneConfig]) -> dict[str, Any]:
    """Fine-tune on a store, from the newest complete checkpoint if there is one; nothing over a finished run.

    Returns:
        The content of `metrics.json`: for each rated split, `before` and `after`; empty in all processes but
        the first.

    Raises:
        UsageError: If the folder was begun with other settings, other data or another number of processes, or
            is inside the store; if rows have nothing of what the model is shown.
        RunError: If the store has nothing to learn from, or rows of several scales; if the training diverges.
    """
    config, out = invocation.config, invocation.out
    check_folders(invocation)
    reader = StoreReader(invocation.data)

    # The rows; whatever a model or device cannot take is refused before anything is written.
    splits = splits_of(reader, config.best_by)
    selection = select(reader, config.arm, invocation.seed, config.kinds)
    scale = check_rows(reader, config, selection, splits)
    summary = store_summary(reader)

    # The folder.
    arguments = training_arguments(config, out, invocation.seed)
    claim = claim_of(invocation)
    agreed(lambda: claim_folder(out, claim, overwrite=invocation.overwrite))
    agreed(lambda: check_ranks(out / CHECKPOINTS, arguments.world_size))
    if agreed(lambda: finished(out)):
        return nothing_to_do(out)
    checkpoint = agreed(lambda: checkpoint_to_resume(out / CHECKPOINTS))
    if arguments.should_save:
        print_start(config, arguments, selection)

    # The model and its trainer.
    load_in_every_process()
    model, encoder = build(config, scale, seed=invocation.seed)
    row_encoder = frozen_towers(encoder, model.base, config, out)
    inputs = EncodedRows(reader, row_encoder, config.cache_mb)
    trainer = make_trainer(config, model, inputs, arguments, selection, out, splits.get("valid", ()), claim)

    # Before, training, after.
    try:
        if config.head_start == "ridge":
            fit_head(model, inputs, selection, config.batch_size)
        before = rate(model, inputs, splits, config.batch_size)
        train(trainer, checkpoint)
        kept = {"kept": load_best(trainer, config.best_by)} if config.best_by != "none" else {}
        after = rate(model, inputs, splits, config.batch_size)
    finally:
        flush(row_encoder)

    # What stays.
    with writing(out):
        model.save(out, write=arguments.should_save)
    if not arguments.should_save:
        return {}
    metrics = compared(splits, before, after) | kept
    write_predictions(out / "predictions.parquet", splits["test"], after["test"])
    write_results(invocation, selection, scale, metrics, summary)
    return metrics


def check_folders(invocation: Invocation[FinetuneConfig]) -> None:
    """Refuse an output folder or a tower cache that is a file, or inside the store."""
    source, cache = {"--data": invocation.data}, invocation.config.tower_cache
    check_output(invocation.out, source)
    if cache not in ("auto", "none"):
        check_output(Path(cache), source, "finetune.tower_cache")


def splits_of(reader: StoreReader, best_by: BestBy) -> dict[str, Rows]:
    """The rows that are rated before and after the training, by split."""
    valid = {} if best_by == "none" else {"valid": validation_rows(reader, best_by)}
    return valid | {"test": rated_rows(reader, "test")}


def check_rows(
    reader: StoreReader, config: FinetuneConfig, selection: Selection, splits: dict[str, Rows]
) -> str:
    """The scale of all rows; refuses what the model or the device cannot take."""
    base_dtype(config)
    rated = {f"originals of {split}": [row["id"] for row in rows] for split, rows in splits.items()}
    chosen = {"rows to train on": selection.ids} | rated
    scale = common_scale(reader, (row_id for ids in chosen.values() for row_id in ids))
    family = load_family(config.model, config.revision)
    shown = shown_modalities(family.modalities, config.model, config.modalities)
    check_shown(reader, chosen, shown, named=config.modalities is not None)
    return scale


def nothing_to_do(out: Path) -> dict[str, Any]:
    """Say that a run is finished; returns what `run` does."""
    if share().rank:
        return {}
    print(f"finetune: {out} holds the finished run of these settings; nothing is left to do", flush=True)
    return read_json_object(out / "metrics.json")


def print_start(config: FinetuneConfig, arguments: TrainingArguments, selection: Selection) -> None:
    """Print where a training runs, and on what."""
    kinds = ", ".join(f"{count} {kind}" for kind, count in Counter(selection.kinds).items())
    print(
        f"finetune: {arguments.world_size} process(es) on {arguments.device.type},"
        f" {len(selection)} training rows ({kinds}), base model in {dtype_description(config)}",
        *idle_gpus_hint(arguments),
        sep="\n",
        flush=True,
    )


def make_trainer(
    config: FinetuneConfig,
    model: SentimentModel,
    inputs: EncodedRows,
    arguments: TrainingArguments,
    selection: Selection,
    out: Path,
    valid: Sequence[dict[str, Any]] = (),
    claim: dict[str, Any] | None = None,
) -> WeightedTrainer:
    """A trainer for selected rows; each epoch is evaluated on `valid`, if there is any.

    Checkpoints hold `claim`, which says what is trained.
    """
    milestones = Milestones(config.save_every, bool(valid), config.patience)
    ids = [row["id"] for row in valid]
    trainer = WeightedTrainer(
        model,
        arguments,
        TrainingRows(selection, inputs, getattr(model.head, "answer", None)),
        Collator(inputs.encoder.processor.tokenizer.pad_token_id),
        config.head_learning_rate,
        lambda: metrics_of(valid, predict(model, inputs, ids, config.batch_size)),
        milestones,
        TrainingLog(out, milestones),
        [KeepTowers(inputs.encoder)],
        ModalityConflict(model.base, config.conflict) if config.conflict else None,
        claim,
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def fit_head(model: SentimentModel, inputs: EncodedRows, selection: Selection, batch_size: int) -> None:
    """Set the regression head to a ridge regression on the training originals."""
    originals = [index for index, kind in enumerate(selection.kinds) if kind == "original"]
    ids = [selection.ids[index] for index in originals]
    features = torch.tensor(computed(model, model.features, inputs, ids, batch_size))
    start_head(model, features, [selection.labels[index] for index in originals])


def rate(
    model: SentimentModel, inputs: EncodedRows, splits: dict[str, Rows], batch_size: int
) -> dict[str, np.ndarray]:
    """The model's ratings of each split's originals."""
    return {
        split: predict(model, inputs, [row["id"] for row in rows], batch_size)
        for split, rows in splits.items()
    }


def train(trainer: WeightedTrainer, checkpoint: Path | None) -> None:
    """Train to the end, from a checkpoint if one is given.

    Raises:
        SystemExit: With 1, on each rank, where SIGTERM stopped it; the first has said how to go on.
    """
    with trainer.milestones.signal:
        trainer.train_from(checkpoint)
        stopped = trainer.milestones.stopped
        if stopped and trainer.args.should_save:
            name = trainer.milestones.signal.name or "SIGTERM"  # it may have come to another rank
            print(
                f"error: {name} stopped the training behind step {trainer.state.global_step} of"
                f" {trainer.state.max_steps}; it is saved, and the same command goes on from there",
                file=sys.stderr,
                flush=True,
            )
        trainer.accelerator.wait_for_everyone()  # a launcher kills all once one has left
    if stopped:
        sys.exit(1)


def load_best(trainer: WeightedTrainer, best_by: str) -> dict[str, Any]:
    """Load the best epoch, if any had a value."""
    epoch = trainer.load_best()
    if epoch is None and trainer.args.should_save:
        print(f"finetune: {best_by} had no value on the split valid; the last epoch is kept", flush=True)
    return {"epoch": epoch, "by": best_by}


def compared(
    splits: dict[str, Rows], before: dict[str, np.ndarray], after: dict[str, np.ndarray]
) -> dict[str, Any]:
    """The metrics of each split before and after the training."""
    return {
        split: {"before": metrics_of(rows, before[split]), "after": metrics_of(rows, after[split])}
        for split, rows in splits.items()
    }


def write_results(
    invocation: Invocation[FinetuneConfig],
    selection: Selection,
    scale: str,
    metrics: dict[str, Any],
    summary: dict[str, Any],
) -> None:
    """Write the metrics, the card and `model.json`; `summary` is the store's."""
    out = invocation.out
    inputs = {"data": committed_generation(invocation.data)}
    record = provenance.record(
        invocation, stage="finetune", title="Fine-tuned model", description="", inputs=inputs
    )
    weights = torch.tensor(selection.weights)
    rows = {
        "store": summary,
        "kinds": dict(Counter(selection.kinds)),
        "mean_weight": float(weights.mean()),
        "effective_sample_size": effective_sample_size(weights),
    }
    write_json(out / "metrics.json", metrics)
    write_card(out, record | {"scale": scale}, rows, metrics)
    written = (ADAPTER_FILE, ADAPTER_CONFIG, HEAD_FILE, CARD, *RESULTS)
    write_record(out, record | {"scale": scale}, [name for name in written if (out / name).exists()])

"""The stage: a scored store in, an adapter with its read-out and metrics out."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.settings import FinetuneConfig
from pipelines import provenance
from pipelines.atomic import write_json
from pipelines.device import leave_group, share
from pipelines.errors import UsageError
from pipelines.settings import Invocation, parse_stage
from pipelines.store import StoreReader, committed_generation

if TYPE_CHECKING:
    from transformers import TrainingArguments

    from finetune.inputs.dataset import Selection
    from finetune.training.validation import Ratings
    from finetune.training.weighted_trainer import WeightedTrainer

# Settings that may change between a run and its resumption.
FREE = ("cache_mb", "device", "save_every", "tower_cache", "trackers")


def main(argv: list[str]) -> None:
    """Fine-tune as the command line says, or tell what that would take."""
    from finetune import dry_run

    needs = ("data",) if "--dry-run" in argv else ("data", "out")
    invocation = parse_stage(
        FinetuneConfig, "finetune", argv, prog="finetune", flags=dry_run.FLAGS, needs=needs
    )
    try:
        (dry_run.main if invocation.flags["dry-run"] else run)(invocation)
    finally:
        leave_group()


def run(invocation: Invocation[FinetuneConfig]) -> dict[str, Any]:
    """Fine-tune on a store; goes on from the newest whole checkpoint if there is one.

    Returns:
        What `metrics.json` holds: of each rated split, `before` and `after`; empty in all processes but
        the first.

    Raises:
        UsageError: If the folder was begun with other settings, other data or another number of processes, or
            rows have nothing of what the model is shown.
        RunError: If the store has nothing to learn from, or rows of several scales; if the training diverges.
    """
    from finetune.evaluation import metrics_of, rated_rows, write_predictions
    from finetune.inputs.dataset import EncodedRows, select
    from finetune.model.fsdp import load_whole
    from finetune.model.saved_model import build
    from finetune.tower_cache.frozen_towers import flush, frozen_towers
    from finetune.training.arguments import training_arguments
    from finetune.training.validation import Ratings, validation_rows
    from finetune.training.weighted_trainer import check_ranks

    config, out = invocation.config, invocation.out
    reader = StoreReader(invocation.data)
    splits = {"test": rated_rows(reader, "test")}
    if config.best_by != "none":
        splits = {"valid": validation_rows(reader, config.best_by)} | splits
    selection = select(reader, config.arm, invocation.seed, config.kinds)
    scale = _check_rows(reader, config, selection, splits)
    arguments = training_arguments(config, out, invocation.seed)
    _claim(out, invocation)
    check_ranks(Path(str(arguments.output_dir)), arguments.world_size)
    if arguments.should_save:
        _tell(config, arguments, selection)
    load_whole()
    model, plain = build(config, scale, seed=invocation.seed)
    encoder = frozen_towers(plain, model.base, config, out)
    ratings = Ratings(model, EncodedRows(reader, encoder, config.cache_mb), arguments)
    trainer = make_trainer(config, ratings, selection, out, splits.get("valid", ()))
    try:
        if config.head_start == "ridge":
            _start_head(ratings, selection)
        before = {split: ratings.rate(rows) for split, rows in splits.items()}
        train(trainer)
        kept = {"kept": _take_best(trainer, config.best_by)} if config.best_by != "none" else {}
        after = {split: ratings.rate(rows) for split, rows in splits.items()}
    finally:
        flush(encoder)
    trainer.rater.save(out, write=arguments.should_save)
    if not arguments.should_save:
        return {}
    metrics: dict[str, Any] = {
        split: {"before": metrics_of(rows, before[split]), "after": metrics_of(rows, after[split])}
        for split, rows in splits.items()
    }
    write_predictions(out / "predictions.parquet", splits["test"], after["test"])
    return _finish(invocation, trainer, selection, scale, metrics | kept)


def _check_rows(
    reader: StoreReader, config: FinetuneConfig, selection: Selection, splits: dict[str, list[dict[str, Any]]]
) -> str:
    """The scale of all rows; what model or device cannot take is refused before anything is written."""
    from finetune.inputs.scales import common_scale
    from finetune.inputs.shown_modalities import check_shown, shown_modalities
    from finetune.model.loading import load_family
    from finetune.model.saved_model import base_dtype

    base_dtype(config)
    rated = {f"originals of {split}": [row["id"] for row in rows] for split, rows in splits.items()}
    chosen = {"rows to train on": selection.ids} | rated
    scale = common_scale(reader, (row_id for ids in chosen.values() for row_id in ids))
    family = load_family(config.model, config.revision)
    shown = shown_modalities(family.modalities, config.model, config.modalities)
    check_shown(reader, chosen, shown, named=config.modalities is not None)
    return scale


def make_trainer(
    config: FinetuneConfig,
    ratings: Ratings,
    selection: Selection,
    out: Path,
    valid: Sequence[dict[str, Any]] = (),
) -> WeightedTrainer:
    """A trainer for selected rows; each epoch is evaluated on `valid`, if there is any."""
    from transformers.trainer_callback import PrinterCallback

    from finetune.inputs.dataset import Collator, TrainingRows
    from finetune.tower_cache.frozen_towers import KeepTowers
    from finetune.training.milestones import Milestones
    from finetune.training.modality_conflict import ModalityConflict
    from finetune.training.training_log import TrainingLog
    from finetune.training.weighted_trainer import WeightedTrainer

    milestones = Milestones(config.save_every, bool(valid), config.patience)
    conflict = ModalityConflict(ratings.model.base, config.conflict) if config.conflict else None
    trainer = WeightedTrainer(
        ratings.model,
        ratings.arguments,
        TrainingRows(selection, ratings.inputs, getattr(ratings.model.readout, "answer", None)),
        Collator(ratings.inputs.encoder.processor.tokenizer.pad_token_id),
        config.head_learning_rate,
        lambda: ratings.metrics(valid),
        milestones,
        TrainingLog(out, milestones),
        [KeepTowers(ratings.inputs.encoder)],
        conflict,
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def train(trainer: WeightedTrainer) -> None:
    """Train to the end, from the newest whole checkpoint if there is one.

    Raises:
        SystemExit: With 1, on each rank, where SIGTERM stopped it; the first has said how to go on.
    """
    from finetune.training.weighted_trainer import newest_whole_checkpoint

    checkpoint = newest_whole_checkpoint(trainer.checkpoints)
    if checkpoint and trainer.args.should_save:
        print(f"finetune: goes on from {checkpoint.name}", flush=True)
    with trainer.milestones.signal:
        trainer.go_on(checkpoint)
        stopped = trainer.milestones.stopped
        if stopped and trainer.args.should_save:
            print(
                f"error: SIGTERM stopped the training behind step {trainer.state.global_step} of"
                f" {trainer.state.max_steps}; it is saved, and the same command goes on from there",
                file=sys.stderr,
                flush=True,
            )
        trainer.accelerator.wait_for_everyone()  # a launcher kills all once one has left
    if stopped:
        sys.exit(1)


def _take_best(trainer: WeightedTrainer, best_by: str) -> dict[str, Any]:
    """Load the best epoch, if any had a value."""
    epoch = trainer.take_best()
    if epoch is None and trainer.args.should_save:
        print(f"finetune: {best_by} had no value on the split valid; the last epoch is kept", flush=True)
    return {"epoch": epoch, "by": best_by}


def _start_head(ratings: Ratings, selection: Selection) -> None:
    import torch

    from finetune.model.head_init import start_head

    originals = [index for index, kind in enumerate(selection.kinds) if kind == "original"]
    found = ratings.features([selection.ids[index] for index in originals])
    start_head(ratings.model, torch.tensor(found), [selection.labels[index] for index in originals])


def _finish(
    invocation: Invocation[FinetuneConfig],
    trainer: WeightedTrainer,
    selection: Selection,
    scale: str,
    metrics: dict[str, Any],
) -> dict[str, Any]:
    import torch

    from finetune.model.saved_model import described, write_card, write_record
    from finetune.objective import effective_sample_size

    out = invocation.out
    record = provenance.record(
        invocation, stage="finetune", title="Fine-tuned model", description="", inputs=_inputs(invocation)
    )
    weights = torch.tensor(selection.weights)
    rows = {
        "store": described(StoreReader(invocation.data)),
        "kinds": dict(Counter(selection.kinds)),
        "mean_weight": float(weights.mean()),
        "effective_sample_size": effective_sample_size(weights),
    }
    write_json(out / "metrics.json", metrics)
    write_card(out, record | {"scale": scale}, rows, metrics)
    write_record(out, record, scale)  # last: a folder with it is complete
    return metrics


def _claim(out: Path, invocation: Invocation[FinetuneConfig]) -> None:
    """Note in the folder what is trained there; refuse one that was begun with something else.

    Raises:
        UsageError: Naming the settings that differ.
    """
    from finetune.model.saved_model import UNSAID

    wanted = _inputs(invocation) | {"seed": invocation.seed} | _fixed(invocation.config)
    path = out / "begun.json"
    if path.exists():
        begun = UNSAID | json.loads(path.read_text(encoding="utf-8"))
        changed = [name for name in wanted if begun.get(name) != wanted[name]]
        if changed:
            told = ", ".join(f"{name} was {begun.get(name)} and is {wanted[name]}" for name in changed)
            raise UsageError(
                f"--out: {out} holds a run with other settings ({told}); remove that folder or choose another"
            )
    elif share().rank == 0:
        write_json(path, wanted)


def _fixed(config: FinetuneConfig) -> dict[str, Any]:
    """The settings that a resumption must keep, as JSON gives them back."""
    values = json.loads(json.dumps(asdict(config)))
    return {name: value for name, value in values.items() if name not in FREE}


def _inputs(invocation: Invocation[FinetuneConfig]) -> dict[str, Any]:
    """What is read: the store's rows, by the generation that it was committed with."""
    return {"data": committed_generation(invocation.data)}


def _tell(config: FinetuneConfig, arguments: TrainingArguments, selection: Selection) -> None:
    """Print where a training runs, and on what."""
    from finetune.model.saved_model import told_dtype
    from finetune.training.arguments import told_idle_gpus

    kinds = ", ".join(f"{count} {kind}" for kind, count in Counter(selection.kinds).items())
    print(
        f"finetune: {arguments.world_size} process(es) on {arguments.device.type},"
        f" {len(selection)} training rows ({kinds}), base model in {told_dtype(config)}",
        *told_idle_gpus(arguments),
        sep="\n",
        flush=True,
    )

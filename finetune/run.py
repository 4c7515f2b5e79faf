"""The stage: a scored store in, an adapter with a regression head and its metrics out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.settings import FinetuneConfig
from pipelines import provenance
from pipelines.atomic import write_json
from pipelines.device import pick, share
from pipelines.errors import UsageError
from pipelines.settings import Invocation, parse_stage
from pipelines.store import StoreReader, committed_generation

if TYPE_CHECKING:
    from transformers import TrainingArguments

    from finetune.rows import EncodedRows, Selection
    from finetune.weighted_trainer import WeightedTrainer

# Settings that may change between a run and its resumption.
FREE = ("cache_mb", "device", "save_every")


def main(argv: list[str]) -> None:
    """Fine-tune as the command line says."""
    run(parse_stage(FinetuneConfig, "finetune", argv, prog="finetune"))


def run(invocation: Invocation[FinetuneConfig]) -> dict[str, Any]:
    """Fine-tune on a store; goes on from the newest whole checkpoint if there is one.

    Returns:
        The test split's metrics, `before` and `after`; empty in all processes but the first.

    Raises:
        UsageError: If the folder was begun with other settings or data.
        RunError: If the store has nothing to learn from.
    """
    from finetune.evaluation import rated_rows
    from finetune.rows import EncodedRows, select
    from finetune.saved_model import build

    config, out = invocation.config, invocation.out
    reader = StoreReader(invocation.data)
    tests = rated_rows(reader, "test")
    selection = select(reader, config.arm, invocation.seed)
    _claim(out, invocation)
    arguments = training_arguments(config, out, invocation.seed)
    if arguments.should_save:
        print(
            f"finetune: {arguments.world_size} process(es) on {arguments.device.type}, {_told(selection)}",
            flush=True,
        )
    model, encoder = build(config, tests[0]["scale"], seed=invocation.seed)
    inputs = EncodedRows(reader, encoder, config.cache_mb)
    trainer = make_trainer(config, arguments, model, inputs, selection, out)
    if config.head_start == "ridge":
        _start_head(trainer, inputs, selection)
    before = _rate(trainer, inputs, tests)
    train(trainer)
    after = _rate(trainer, inputs, tests)
    if not arguments.should_save:
        return {}
    return _finish(invocation, trainer, selection, tests, before, after)


def training_arguments(config: FinetuneConfig, out: Path, seed: int) -> TrainingArguments:
    """The Trainer's settings for ours."""
    from transformers import TrainingArguments

    return TrainingArguments(
        output_dir=str(out / "checkpoints"),
        per_device_train_batch_size=config.batch_size,
        gradient_accumulation_steps=config.accumulation,
        num_train_epochs=config.epochs,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        lr_scheduler_type="cosine",
        warmup_steps=config.warmup,
        logging_steps=config.log_every,
        save_steps=config.save_every,
        save_total_limit=2,
        seed=seed % 2**32,
        use_cpu=pick(config.device) == "cpu",
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        # A tower gets no gradient from a batch that has nothing for it.
        ddp_find_unused_parameters=config.adapt != ("language",),
        disable_tqdm=True,
        report_to=[],
    )


def make_trainer(
    config: FinetuneConfig,
    arguments: TrainingArguments,
    model: Any,
    inputs: EncodedRows,
    selection: Selection,
    out: Path,
) -> WeightedTrainer:
    """A trainer for selected rows."""
    from transformers.trainer_callback import PrinterCallback

    from finetune.rows import Collator, TrainingRows
    from finetune.training_log import TrainingLog
    from finetune.weighted_trainer import WeightedTrainer

    trainer = WeightedTrainer(
        model,
        arguments,
        TrainingRows(selection, inputs),
        Collator(inputs.encoder.processor.tokenizer.pad_token_id),
        config.loss,
        config.head_learning_rate,
        [TrainingLog(out)],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def train(trainer: WeightedTrainer) -> None:
    """Train to the end, from the newest whole checkpoint if there is one."""
    from finetune.weighted_trainer import newest_whole_checkpoint

    checkpoint = newest_whole_checkpoint(trainer.checkpoints)
    if checkpoint and trainer.args.should_save:
        print(f"finetune: goes on from {checkpoint.name}", flush=True)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)


def _start_head(trainer: WeightedTrainer, inputs: EncodedRows, selection: Selection) -> None:
    import torch

    from finetune.evaluation import features
    from finetune.head_start import start_head

    originals = [index for index, kind in enumerate(selection.kinds) if kind == "original"]
    found = _shared(trainer, inputs, [selection.ids[index] for index in originals], features)
    start_head(trainer.regressor, torch.tensor(found), [selection.labels[index] for index in originals])


def _rate(trainer: WeightedTrainer, inputs: EncodedRows, rows: list[dict[str, Any]]) -> Any:
    """Ratings of rows, (N,)."""
    import numpy as np

    from finetune.evaluation import predict

    return np.array(_shared(trainer, inputs, [row["id"] for row in rows], predict))


def _shared(
    trainer: WeightedTrainer, inputs: EncodedRows, ids: list[str], compute: Callable[..., Any]
) -> list[Any]:
    """What `compute` gives for rows, each rank taking its share; complete on every rank."""
    from accelerate.utils import gather_object

    rank, ranks = trainer.args.process_index, trainer.args.world_size
    batch_size = trainer.args.per_device_train_batch_size
    own = compute(trainer.regressor, inputs, ids[rank::ranks], batch_size)
    found: list[Any] = [None] * len(ids)
    for other, values in enumerate(gather_object([list(own)])):
        found[other::ranks] = values
    return found


def _finish(
    invocation: Invocation[FinetuneConfig],
    trainer: WeightedTrainer,
    selection: Selection,
    tests: list[dict[str, Any]],
    before: Any,
    after: Any,
) -> dict[str, Any]:
    import torch

    from finetune.evaluation import metrics_of, write_predictions
    from finetune.objective import effective_sample_size
    from finetune.saved_model import described, write_card, write_record

    out = invocation.out
    record = provenance.record(
        invocation, stage="finetune", title="Fine-tuned model", description="", inputs=_inputs(invocation)
    )
    metrics = {"before": metrics_of(tests, before), "after": metrics_of(tests, after)}
    weights = torch.tensor(selection.weights)
    rows = {
        "store": described(StoreReader(invocation.data)),
        "kinds": dict(Counter(selection.kinds)),
        "mean_weight": float(weights.mean()),
        "effective_sample_size": effective_sample_size(weights),
    }
    trainer.regressor.save(out)
    write_predictions(out / "predictions.parquet", tests, after)
    write_json(out / "metrics.json", {"test": metrics})
    write_card(out, record | {"scale": tests[0]["scale"]}, rows, metrics)
    write_record(out, record, tests[0]["scale"])  # last: a folder with it is complete
    return metrics


def _claim(out: Path, invocation: Invocation[FinetuneConfig]) -> None:
    """Note in the folder what is trained there; refuse one that was begun with something else.

    Raises:
        UsageError: Naming the settings that differ.
    """
    wanted = _inputs(invocation) | {"seed": invocation.seed} | _fixed(invocation.config)
    path = out / "begun.json"
    if path.exists():
        begun = json.loads(path.read_text(encoding="utf-8"))
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
    values = json.loads(json.dumps(vars(config)))
    return {name: value for name, value in values.items() if name not in FREE}


def _inputs(invocation: Invocation[FinetuneConfig]) -> dict[str, Any]:
    """What is read: the store's rows, by the generation that it was committed with."""
    return {"data": committed_generation(invocation.data)}


def _told(selection: Selection) -> str:
    kinds = ", ".join(f"{count} {kind}" for kind, count in Counter(selection.kinds).items())
    return f"{len(selection)} training rows ({kinds})"

"""The settings of transformers' Trainer, and the launcher's settings that are refused.

The options of `accelerate launch` reach the Trainer through the environment.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments

from finetune.model.fsdp import check_fsdp
from finetune.settings import FinetuneConfig, check_trackers
from pipelines.device import pick
from pipelines.errors import UsageError

HALF = ("bf16", "fp16")
"""Precisions, by accelerate's and DeepSpeed's names."""


def training_arguments(config: FinetuneConfig, out: Path, seed: int) -> TrainingArguments:
    """The Trainer's settings for a run's.

    Raises:
        UsageError: If a tracker is not installed, or the launcher asks for what is not supported.
    """
    check_trackers("finetune.trackers", config.trackers)
    check_fsdp(config)
    chooses = config.best_by != "none"
    arguments = TrainingArguments(
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
        eval_strategy="no",  # `Milestones` decides when; the Trainer tracks the best
        save_strategy="epoch",
        save_total_limit=3 if chooses else 2,  # the best, the one being written, the one before it
        metric_for_best_model=config.best_by if chooses else None,
        greater_is_better=config.best_by != "MAE" if chooses else None,
        seed=seed % 2**32,
        use_cpu=pick(config.device) == "cpu",
        remove_unused_columns=False,
        logging_nan_inf_filter=False,  # `finetune.divergence` ends such a training
        dataloader_pin_memory=False,
        # A tower gets no gradient from a batch that has nothing for it.
        ddp_find_unused_parameters=config.adapt != ("language",),
        disable_tqdm=True,
        report_to=list(config.trackers),
        project="daq-msa",
        run_name=out.resolve().name,
    )
    _check_launcher(arguments)
    if arguments.n_gpu > 1:
        # The Trainer would split each batch among all GPUs that it sees (`torch.nn.DataParallel`), along the
        # first dimension of every input, which for position ids and patches is not the rows.
        arguments._n_gpu = 1
    return arguments


def idle_gpus_hint(arguments: TrainingArguments) -> Iterator[str]:
    """A line on how to use all GPUs, if a single process sees several."""
    count = torch.cuda.device_count()
    if count > 1 and arguments.world_size == 1 and not arguments.use_cpu:
        yield (
            f"finetune: uses 1 of {count} GPUs; `accelerate launch --multi_gpu --num_processes {count}"
            " -m finetune` with the same options uses all"
        )


def _check_launcher(arguments: TrainingArguments) -> None:
    """Refuse settings of DeepSpeed that do not work with how a model is rated and trained."""
    plugin = getattr(arguments, "deepspeed_plugin", None)
    if plugin is None:
        return
    if plugin.zero_stage == 3:
        raise UsageError(
            "accelerate: got DeepSpeed ZeRO stage 3, which also shards the towers, and processes call these"
            " different numbers of times; take stage 1 or 2, or --use_fsdp --fsdp_version 2"
        )
    half = _half_precision(plugin.deepspeed_config)
    if half:
        raise UsageError(
            f"accelerate: got mixed_precision: {half} under DeepSpeed, which would make adapter and head"
            f" {half}, too; take no: finetune.precision says what the frozen model is computed in"
        )


def _half_precision(config: dict[str, Any]) -> str | None:
    """The half precision of adapter and head that the launcher or DeepSpeed's configuration asks for."""
    enabled = [name for name in HALF if str(config.get(name, {}).get("enabled")).lower() == "true"]
    launched = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    return launched if launched in HALF else next(iter(enabled), None)

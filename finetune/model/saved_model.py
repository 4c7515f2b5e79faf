"""A fine-tuned model's folder: adapter, head, and the record of how to use them.

adapter_model.safetensors, adapter_config.json   as peft writes them
head.safetensors                                 the head's layer, if it has one
model.json                                       base model, what it is shown, scale, settings
metrics.json, predictions.parquet                on the test split
README.md                                        the card
checkpoints/, log.jsonl, status.json             of the training

`daq-msa merge` makes a folder that needs no base model: instead of the adapter it has the merged model,
config.json and model*.safetensors as transformers writes them, and its processor.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from finetune.inputs.batch import Budget
from finetune.inputs.chat_encoder import ChatEncoder
from finetune.model.adapters import adapted, fresh_head
from finetune.model.loading import BaseModel, load_base
from finetune.model.regressor import ADAPTER_FILE, HEAD_FILE, SentimentModel
from finetune.settings import FinetuneConfig
from pipelines.atomic import DamagedFile, sync_folder, write_text
from pipelines.device import check_bfloat16, has_bfloat16, pick
from pipelines.durable.checkpoints import fingerprints, read_json_object, settle, verify
from pipelines.errors import RunError, UsageError, reason
from pipelines.row import SCALES, SPLITS
from pipelines.settings import RENAMED
from pipelines.store import StoreReader, committed_generation, made_by
from pipelines.store_files.checksums import write_sealed

RECORD = "model.json"
WEIGHTS = (ADAPTER_FILE, HEAD_FILE)
RESULTS = ("metrics.json", "predictions.parquet")
"""Files that `daq-msa evaluate` may write anew."""
CARD = "README.md"
READ_BYTES = 2**26
"""Files of a merged model up to this size are read when they are verified."""
MADE_AGAIN = "the command that made this folder makes it again: the same `finetune`, or `daq-msa merge`"
FLASH = "flash_attention_2"
# Values of settings that did not exist when a record was written.
MISSING_SETTINGS: dict[str, Any] = {"audio_in_video": False}
# What "before" is, by head and by where a regression head starts.
BEFORE = {
    "ridge": "with a ridge regression on its last token, fitted on the training originals",
    "zero": "with a head that predicts the middle of the scale",
    "classes": "with a head to which all classes are equal",
    "levels": "asked for a digit",
    "answer": "asked for a number",
}


def build(config: FinetuneConfig, scale: str, *, seed: int) -> tuple[SentimentModel, ChatEncoder]:
    """A new adapter and head on the configured base model, on the CPU, and the encoder of its inputs."""
    base = load_base(
        config.model,
        config.revision,
        dtype=base_dtype(config),
        max_pixels=config.max_pixels,
        attention=config.attention,
        quantize=config.quantize,
    )
    return adapted(base, config, scale, seed=seed), encoder_of(base, config)


def encoder_of(base: BaseModel, config: FinetuneConfig) -> ChatEncoder:
    """The encoder of a model's inputs, as configured."""
    budget = Budget(
        video_fps=config.video_fps,
        max_frames=config.max_frames,
        max_audio_s=config.max_audio_s,
        max_tokens=config.max_tokens,
    )
    return base.encoder(budget, config.modalities, config.head, config.audio_in_video)


def base_dtype(config: FinetuneConfig) -> torch.dtype:
    """The type of the frozen model's parameters.

    Raises:
        UsageError: If the device lacks it, or the attention does not support it.
    """
    dtype = _dtype(config)
    if dtype == torch.bfloat16:
        check_bfloat16("finetune.precision: got bfloat16", pick(config.device), "auto or float32")
    if dtype == torch.float32 and config.attention == FLASH:
        raise UsageError(
            f"finetune.attention: got {FLASH}, which takes no float32, and finetune.precision:"
            f" {config.precision} is float32 on {pick(config.device)}; take sdpa, or bfloat16 on a GPU that"
            " computes in it"
        )
    return dtype


def dtype_description(config: FinetuneConfig) -> str:
    """The type of the frozen model's parameters for a message, with a remark if the device lacks bfloat16."""
    device = pick(config.device)
    name = str(_dtype(config)).removeprefix("torch.")
    return name if has_bfloat16(device) else f"{name} ({device} does not compute in bfloat16)"


def _dtype(config: FinetuneConfig) -> torch.dtype:
    if config.precision == "auto":
        device = pick(config.device)
        return torch.bfloat16 if device.startswith("cuda") and has_bfloat16(device) else torch.float32
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[config.precision]


def read_record(directory: Path, key: str = "--model") -> dict[str, Any]:
    """The content of `model.json` in a model's folder, its settings under their names of today.

    Raises:
        UsageError: If the folder holds no fine-tuned model; `key` is the option that named it.
        RunError: If the record is broken.
    """
    path = directory / RECORD
    if not path.is_file():
        raise UsageError(
            f"{key}: {directory} holds no {RECORD}; give the --out folder of a finished finetune run"
        )
    try:
        record = read_json_object(path)
    except DamagedFile as error:
        raise RunError(f"{key}: {error}; {MADE_AGAIN}") from error
    lacking = [name for name in ("config", "scale", "seed") if name not in record]
    if lacking or not isinstance(record["config"], dict) or record["scale"] not in SCALES:
        found = f"lacks {', '.join(lacking)}" if lacking else f"has the scale {record['scale']!r}"
        raise RunError(f"{key}: {path} {found}, so it is no record of a fine-tuning; {MADE_AGAIN}")
    return record | {"config": current(record["config"])}


def write_record(directory: Path, record: dict[str, Any], names: Iterable[str]) -> None:
    """Write `model.json`, which vouches for the named files; last, so a folder with it is complete.

    All of them are on the disk before it is.
    """
    names = sorted(names)
    settle(directory, names)
    write_sealed(directory / RECORD, record | {"files": fingerprints(directory, names)})
    sync_folder(directory)


def vouched(directory: Path) -> frozenset[str]:
    """Names of the files that `model.json` vouches for; none where there is no model."""
    path = directory / RECORD
    return frozenset(read_json_object(path).get("files", {}) if path.exists() else ())


def vouch_again(directory: Path, names: Iterable[str]) -> None:
    """Let `model.json` vouch for files that were written anew after it."""
    record = read_json_object(directory / RECORD)
    if "files" in record:  # not from earlier versions
        settle(directory, names)
        write_sealed(directory / RECORD, record | {"files": record["files"] | fingerprints(directory, names)})
        sync_folder(directory)


def check_files(directory: Path, record: dict[str, Any]) -> None:
    """Compare what a model is loaded from with its record.

    Large files of a merged model are compared by their sizes alone: reading them takes as long as loading.

    Raises:
        RunError: Naming the file that is missing or broken.
    """
    files = record.get("files", {})
    used = {name: known for name, known in files.items() if name not in (*RESULTS, CARD)}
    small = {name: known for name, known in used.items() if known["bytes"] <= READ_BYTES or name in WEIGHTS}
    try:
        verify(directory, used, content=False)
        verify(directory, small)
    except DamagedFile as error:
        raise RunError(f"--model: {error}; {MADE_AGAIN}") from error


def current(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings that another version may have written, by their names of today."""
    new_names = {old.removeprefix("finetune."): new.removeprefix("finetune.") for old, new in RENAMED.items()}
    return MISSING_SETTINGS | {new_names.get(name, name): value for name, value in settings.items()}


def open_model(
    directory: Path, device: str, **changes: Any
) -> tuple[SentimentModel, ChatEncoder, dict[str, Any]]:
    """Load a fine-tuned model, merged or with its adapter.

    Args:
        directory: The model's folder.
        device: Where it goes.
        **changes: Settings that replace those it was trained with, such as `precision`.

    Returns:
        The model in evaluation mode on the device, the encoder of its inputs, and its record.

    Raises:
        UsageError: If the folder holds no fine-tuned model.
        RunError: If a file of it is broken.
    """
    record = read_record(directory)
    check_files(directory, record)
    for_training: dict[str, Any] = {"gradient_checkpointing": False, "conflict": None}
    settings = record["config"] | for_training | {"device": device} | changes
    settings |= {name: tuple(settings[name]) for name in ("adapt", "modalities") if settings.get(name)}
    try:
        config = FinetuneConfig(**settings)
    except (TypeError, ValueError) as error:
        raise RunError(
            f"--model: {directory / RECORD} has settings that this version does not know"
            f" ({reason(error)}); {MADE_AGAIN}"
        ) from error
    has_flash = pick(config.device).startswith("cuda") and _dtype(config) != torch.float32
    if config.attention == FLASH and not has_flash:
        config = replace(config, attention="auto")  # which computes the same
    if record.get("merged"):
        base = load_base(str(directory), None, dtype=base_dtype(config), max_pixels=config.max_pixels)
        model = SentimentModel(base.thinker, fresh_head(base, config, record["scale"]))
        model.load_head(directory)
        encoder = encoder_of(base, config)
    else:
        model, encoder = build(config, record["scale"], seed=record["seed"])
        model.load(directory)
    return model.to(pick(device)).eval(), encoder, record


def store_summary(reader: StoreReader) -> dict[str, Any]:
    """A store for a card: its title, corpora, generation, and number of originals by split."""
    rows = reader.table.select(["kind", "split", "corpus"]).to_pylist()
    originals = Counter(row["split"] for row in rows if row["kind"] == "original")
    return {
        "title": made_by(reader.directory).get("title") or reader.directory.name,
        "corpora": sorted({str(row["corpus"]) for row in rows}),
        "generation": committed_generation(reader.directory),
        "originals": {split: originals[split] for split in SPLITS if originals[split]},
    }


def write_card(
    directory: Path, record: dict[str, Any], rows: dict[str, Any], metrics: dict[str, Any]
) -> None:
    """Write the model's card, from the contents of `model.json` and `metrics.json`.

    `rows` describes the training data: the `store`, from `store_summary`, numbers by kind, weights.
    """
    config = record["config"]
    before, after = metrics["test"]["before"], metrics["test"]["after"]
    table = "\n".join(
        f"| {name} | {_cell(before.get(name))} | {_cell(after.get(name))} |"
        for name in dict.fromkeys([*before, *after])
    )
    shown = ", ".join(config["modalities"] or ["text, and audio and video as far as the model reads them"])
    start = config["head_start"] if config["head"] == "regression" else config["head"]
    kinds = ", ".join(f"{count} {kind}" for kind, count in rows["kinds"].items())
    versions = "\n".join(f"- {name} {version}" for name, version in record["versions"].items())
    base = f"{config['model']}{'@' + config['revision'] if config['revision'] else ''}"
    card = f"""---
library_name: peft
tags: [daq-msa, multimodal-sentiment-analysis, lora]
---
# LoRA adapter for rating sentiment

For the base model `{base}`, with the head {config["head"]}; rates clips by their {shown},
on the scale `{record["scale"]}`.

## Data and weights
{_data(rows["store"])}
{sum(rows["kinds"].values())} training rows: {kinds}.
Arm `{config["arm"]}`: mean weight {rows["mean_weight"]:.3f},
effective sample size {rows["effective_sample_size"]:.1f}. The loss is Σ w ℓ / Σ w over each optimizer step.

## Test split

| | before fine-tuning | after |
|---|---|---|
{table}

The metrics are those of MMSA, by its names.
{_kept(metrics.get("kept"))}
Before: the base model as it is, {BEFORE[start]}.

## Use
`daq-msa evaluate --model {directory.name} --data STORE`; `daq-msa predict --model {directory.name} CLIP`.
`model.json` has every setting and the command; `metrics.json` and `predictions.parquet` are of the test
split.

## Made by
{versions}
"""
    write_text(directory / CARD, card)


def _kept(kept: dict[str, Any] | None) -> str:
    if kept is None or kept["epoch"] is None:
        return "The last epoch was kept."
    return f"Epoch {kept['epoch']} was kept, the best on the split valid by {kept['by']}."


def _data(store: dict[str, Any]) -> str:
    originals = ", ".join(f"{count} {split}" for split, count in store["originals"].items())
    return f"""Store "{store["title"]}", generation `{store["generation"]}`, of the corpus
{", ".join(store["corpora"])}; originals: {originals}."""


def _cell(value: Any) -> str:
    return "–" if value is None else f"{value:g}"

"""Merges the adapter of a fine-tuned model into its weights: `daq-msa merge --model DIR --out DIR2`.

The new folder needs neither the base model nor peft; `daq-msa evaluate` and `predict` take it like any other.
The base model must be on this machine; the Hub is never asked. The sum is in float32; stored as bfloat16 the
weights take half the space, and ratings change by that rounding.
"""

from __future__ import annotations

import argparse
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.atomic import sync_folder, write_text
from pipelines.durable.checkpoints import writing
from pipelines.errors import UsageError, call
from pipelines.running.outputs import check_output

if TYPE_CHECKING:
    from finetune.inputs.chat_encoder import ChatEncoder
    from finetune.model.regressor import SentimentModel

PRECISIONS = ("float32", "bfloat16")


def main(argv: list[str]) -> None:
    """Merge a model's folder."""
    options = _options(argv)
    # Read when the Hub's client is first imported. The base model was loaded for the training.
    os.environ["HF_HUB_OFFLINE"] = "1"
    print(merge(options.model, options.out, precision=options.precision))


def merge(directory: Path, out: Path, *, precision: str = "float32") -> Path:
    """Write a model's folder anew with the adapter in the weights.

    Args:
        directory: A fine-tuned model with its adapter; it is not changed.
        out: A new or empty folder. It is written completely or not at all.
        precision: Of the stored weights, one of `PRECISIONS`.

    Returns:
        `out`.

    Raises:
        UsageError: If there is nothing to merge, or `out` is not empty.
    """
    from finetune.model.saved_model import RESULTS, open_model, read_record, write_record

    if read_record(directory).get("merged"):
        raise UsageError(f"--model: {directory} holds a merged model; give the folder that has the adapter")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        content = f"a folder with {len(list(out.iterdir()))} entries" if out.is_dir() else "a file"
        raise UsageError(f"--out: {out} is {content}; takes a new or empty folder, remove it or name another")
    check_output(out, {"--model": directory})
    model, encoder, record = open_model(directory, "cpu", precision="float32", quantize="none")
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    temporary.mkdir(parents=True)
    try:
        with writing(out):
            write_merged(model, encoder, temporary, precision)
            for name in RESULTS:
                if (directory / name).is_file():
                    shutil.copyfile(directory / name, temporary / name)
            write_text(temporary / "README.md", _card(record, out.name, precision))
            about = {"merged": True, "base": record["config"]["model"], "precision": precision}
            names = [path.name for path in temporary.iterdir()]
            write_record(temporary, record | about, names)
            temporary.replace(out)
            sync_folder(out.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return out


def write_merged(model: SentimentModel, encoder: ChatEncoder, directory: Path, precision: str) -> None:
    """Merge the adapter, after which `model` cannot be used, and write weights, processor and head."""
    import torch

    from finetune.inputs.audio_in_video import AUDIO_IN_VIDEO

    thinker = model.thinker.merge_and_unload(safe_merge=True)
    if encoder.chat.interleaving is not None:
        setattr(thinker.config, AUDIO_IN_VIDEO, encoder.interleaving is not None)
    thinker.to(getattr(torch, precision)).save_pretrained(directory)
    processor = encoder.processor
    # A text-only model has a tokenizer alone.
    (processor if hasattr(processor, "save_pretrained") else processor.tokenizer).save_pretrained(directory)
    model.save_head(directory)


def _card(record: dict[str, Any], name: str, precision: str) -> str:
    config, versions = record["config"], record["versions"]
    base = f"{config['model']}{'@' + config['revision'] if config['revision'] else ''}"
    made_by = "\n".join(f"- {package} {version}" for package, version in versions.items())
    return f"""---
library_name: transformers
tags: [daq-msa, multimodal-sentiment-analysis]
---
# A fine-tuned model for rating sentiment, adapter merged

The base model `{base}` with the adapter of a fine-tuning added to its weights, stored as
{precision}. Its head is {config["head"]}, whose layer, if it has one, is in `head.safetensors`; it rates
clips on the scale `{record["scale"]}`. The base model's licence holds for these weights too.

## Use
`daq-msa evaluate --model {name} --data STORE`; `daq-msa predict --model {name} CLIP`. `model.json` has
every setting of the fine-tuning; `metrics.json` is that of the adapter.

## Made by
{made_by}
"""


def _options(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="daq-msa merge", description=__doc__, allow_abbrev=False)
    parser.add_argument("--model", type=Path, required=True, help="folder of a fine-tuned model")
    parser.add_argument("--out", type=Path, required=True, help="a new or empty folder")
    parser.add_argument("--precision", choices=PRECISIONS, default="float32", help="(default: float32)")
    return parser.parse_args(argv)


if __name__ == "__main__":
    call(main)

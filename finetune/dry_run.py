"""What a run would read and how much memory it would take, without running it: `finetune --dry-run …`.

Rows are encoded as in the run. The model is built from its configuration alone, without weights, so that a
folder with `config.json` and the processor's files is enough for a model of any size. Activations and towers
are counted in `finetune.training.memory_estimate`, weights and the optimizer here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import transformers

from finetune.inputs.batch import Encoded, InputError, collate
from finetune.inputs.dataset import select
from finetune.model.adapters import adapted
from finetune.model.fsdp import layers_of
from finetune.model.loading import BaseModel, load_processor, source_of
from finetune.model.quantization import is_kept
from finetune.model.regressor import SentimentModel
from finetune.model.saved_model import base_dtype, encoder_of
from finetune.run import check_rows, splits_of
from finetune.settings import FinetuneConfig
from finetune.tower_cache.frozen_towers import with_embeds
from finetune.training.memory_estimate import Rehearsal
from pipelines.device import share
from pipelines.errors import listed
from pipelines.pretrained import SAFE
from pipelines.settings import Invocation
from pipelines.store import StoreReader

GIB = 2**30
# Of a 4-bit weight: half a byte, an 8-bit scale per 64 weights, a 32-bit scale per 256 of those scales.
NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
# Of a trained parameter: itself, its gradient and Adam's two moments, all float32.
TRAINED_BYTES = 16
VIDEO = ("pixel_values_videos", "video_grid_thw")
AUDIO = ("input_features", "feature_attention_mask")
# An implementation that takes as much memory as one that needs a GPU.
ATTENTION = {"flash_attention_2": "sdpa"}


@dataclass(frozen=True, kw_only=True)
class Length:
    """The length of a row's input."""

    name: str
    tokens: int
    patches: int
    frames: int
    audio_s: float
    over: bool
    """Longer than `max_tokens`; the other figures are those after shortening."""
    refused: bool
    """Still longer after shortening."""


def main(invocation: Invocation[FinetuneConfig]) -> None:
    """Print the report; the first process does."""
    if share().rank == 0:
        for line in report(invocation):
            print(line, flush=True)


def report(invocation: Invocation[FinetuneConfig]) -> Iterator[str]:
    """The lines of a report, each as soon as it is known.

    Raises:
        RunError: If the store has nothing to learn from, or rows of several scales, or the memory of a step
            cannot be counted.
        UsageError: If the model cannot be found or lacks a requested part, if rows have none of the
            modalities that it is shown, or if the split valid has nothing to choose an epoch by.
    """
    config, reader = invocation.config, StoreReader(invocation.data)
    splits = splits_of(reader, config.best_by)
    chosen = select(reader, config.arm, invocation.seed, config.kinds)
    scale = check_rows(reader, config, chosen, splits)
    base = blank(config)
    rated = [row["id"] for rows in splits.values() for row in rows]
    lengths = measure(base, config, reader, [*chosen.ids, *rated])
    counts = [f"{len(rows)} of {split} to rate" for split, rows in splits.items()]
    yield f"rows: {', '.join([f'{len(chosen)} to train on', *counts])}"
    yield from length_lines(lengths, config.max_tokens)
    model = adapted(base, config, scale, seed=0)
    yield from memory_lines(base, model, config, extremes(base, config, reader, lengths))


def blank(config: FinetuneConfig) -> BaseModel:
    """The configured model without weights, with the type and attention that it would be loaded with."""
    family, processor = load_processor(config.model, config.revision)
    model_class = getattr(transformers, family.model_class)
    # A model inside a larger one finds its own configuration in the larger one's.
    config_class = getattr(model_class, "config_class", None) or transformers.AutoConfig
    settings = config_class.from_pretrained(source_of(config.model), revision=config.revision, **SAFE)
    options: dict[str, Any] = {"dtype": base_dtype(config)}
    if config.attention != "auto":
        options["attn_implementation"] = ATTENTION.get(config.attention, config.attention)
    with torch.device("meta"):
        build = getattr(model_class, "from_config", None) or model_class._from_config
        model = build(settings, **options)
    model.requires_grad_(False)
    model.name_or_path = config.model
    return BaseModel(config.model, config.revision, family, model, processor, config.max_pixels)


def measure(base: BaseModel, config: FinetuneConfig, reader: StoreReader, ids: Sequence[str]) -> list[Length]:
    """The length of each row's input under the settings."""
    limited, unlimited = encoder_of(base, config), encoder_of(base, replace(config, max_tokens=None))
    lengths = []
    for name in ids:
        row = reader.row(reader.index_of(name))
        encoded, refused = unlimited(row), False
        over = config.max_tokens is not None and len(encoded.input_ids) > config.max_tokens
        if over:
            try:
                encoded = limited(row)
            except InputError:
                refused = True
        lengths.append(_length(base, encoded, name=name, over=over, refused=refused))
    return lengths


def _length(base: BaseModel, encoded: Encoded, **about: Any) -> Length:
    patches, frames, audio_s = 0, 0, 0.0
    if encoded.video_grid_thw is not None:
        patches = int(encoded.video_grid_thw.prod())
        frames = int(encoded.video_grid_thw[0]) * base.processor.video_processor.temporal_patch_size
    if encoded.feature_attention_mask is not None:
        extractor = base.processor.feature_extractor
        audio_s = float(encoded.feature_attention_mask.sum()) * extractor.hop_length / extractor.sampling_rate
    tokens = len(encoded.input_ids)
    return Length(tokens=tokens, patches=patches, frames=frames, audio_s=audio_s, **about)


def extremes(
    base: BaseModel, config: FinetuneConfig, reader: StoreReader, lengths: Sequence[Length]
) -> tuple[Encoded, Encoded, Encoded]:
    """The inputs with the most tokens, the largest video and the longest audio."""

    def encoded(size: str) -> Encoded:
        length = max(lengths, key=lambda length: getattr(length, size))
        shown = replace(config, max_tokens=None) if length.refused else config
        return encoder_of(base, shown)(reader.row(reader.index_of(length.name)))

    return encoded("tokens"), encoded("patches"), encoded("audio_s")


def length_lines(lengths: Sequence[Length], max_tokens: int | None) -> Iterator[str]:
    """Lines about rows."""
    tokens = [length.tokens for length in lengths]
    longest = max(lengths, key=lambda length: length.tokens)
    median, most = np.percentile(tokens, [50, 95])
    yield f"tokens of a row: median {median:.0f}, 95 % {most:.0f}, most {longest.tokens} ({longest.name})"
    frames = [length.frames for length in lengths]
    audio_s = [length.audio_s for length in lengths]
    yield f"frames of a row: median {np.median(frames):.0f}, most {max(frames)}"
    yield f"seconds of audio of a row: median {np.median(audio_s):.1f}, most {max(audio_s):.1f}"
    if max_tokens is not None:
        over = sum(length.over for length in lengths)
        refused = [length.name for length in lengths if length.refused]
        yield f"rows over {max_tokens} tokens: {over}, which lose frames or audio"
        if refused:
            yield f"rows that cannot be brought under it: {len(refused)} ({listed(refused, most=3)})"


def memory_lines(
    base: BaseModel, model: SentimentModel, config: FinetuneConfig, rows: tuple[Encoded, Encoded, Encoded]
) -> Iterator[str]:
    """Lines about parameters and memory, in GiB, of one process; `model` cannot be used afterwards."""
    trained = sum(value.numel() for value in model.parameters() if value.requires_grad)
    parameters = sum(value.numel() for value in model.parameters())
    yield f"parameters: {parameters / 1e9:.3f} billion, {trained / 1e6:.3f} million of them trained"
    fixed = {"weights": weight_bytes(model, config), "adapter, gradients and Adam": trained * TRAINED_BYTES}
    sharded = frozen_bytes(layers_of(base.family.decoder(base.thinker)))
    for name, size in fixed.items():
        yield f"memory, {name}: {size / GIB:.2f} GiB"
    towers, step = step_bytes(model, config, rows)
    yield f"memory, towers: {towers / GIB:.2f} GiB"
    yield f"memory, activations: {step / GIB:.2f} GiB"
    # Towers run before there are activations, or else their memory is part of the activations'.
    total = sum(fixed.values()) + max(towers, step)
    yield f"memory in all, roughly: {total / GIB:.2f} GiB"
    yield f"memory, of it what FSDP shares out: {sharded / GIB:.2f} GiB"
    if torch.cuda.is_available():
        available = torch.cuda.get_device_properties(0).total_memory
        enough = "enough" if total < 0.9 * available else "not enough"
        yield f"memory of the GPU: {available / GIB:.2f} GiB, {enough}"


def step_bytes(
    model: SentimentModel, config: FinetuneConfig, rows: tuple[Encoded, Encoded, Encoded]
) -> tuple[int, int]:
    """The peak memory of the towers, and that of a forward and backward pass.

    Frozen towers run before the language model has any activations, and one video at a time if their outputs
    are cached, as in `finetune.tower_cache.frozen_towers`. A batch has `config.batch_size` rows, all of them
    the longest.
    """
    frozen, size = config.towers_are_frozen, config.batch_size
    rehearsal, (longest, largest, loudest) = Rehearsal(model, shallow=frozen), rows
    answer = getattr(model.head, "answer", None)
    if answer is not None:
        longest = longest.answered(answer(0.0))
    if not frozen:
        # One row, times the number of rows: a vision tower attends window by window.
        batch = collate([longest], 0)
        return size * rehearsal.towers(batch)[1], size * rehearsal.step(batch)
    at_once = size if config.tower_cache == "none" else 1
    peaks = [0]
    outputs: dict[str, torch.Tensor] = {}
    for row, count, names in ((largest, at_once, VIDEO), (loudest, size, AUDIO)):
        clips = {name: value for name, value in collate([row], 0).items() if name in names}
        if clips:
            embeds, peak = rehearsal.towers(clips)
            peaks.append(count * peak)
            outputs |= embeds
    # The longest row, with embeddings of the right number and width in place of its media.
    stand_ins: dict[str, torch.Tensor | None] = {}
    for name, kind in (("video_embeds", "video"), ("audio_embeds", "audio")):
        count = int((longest.input_ids == getattr(model.base.config, f"{kind}_token_id", -1)).sum())
        stand_ins[name] = outputs[name].new_empty(count, outputs[name].shape[1]) if count else None
    return max(peaks), rehearsal.step(collate([with_embeds(longest, **stand_ins)] * size, 0))


def weight_bytes(model: SentimentModel, config: FinetuneConfig) -> float:
    """Bytes of the frozen parameters, quantized as configured."""
    frozen = frozen_bytes(model)
    if config.quantize == "none":
        return frozen
    packed = [
        layer.weight
        for name, layer in model.thinker.get_base_model().named_modules()
        if isinstance(layer, torch.nn.Linear) and ".lora_" not in name and not is_kept(name)
    ]
    return frozen - sum(weight.nbytes - weight.numel() * NF4_BYTES for weight in packed)


def frozen_bytes(module: torch.nn.Module) -> int:
    """Bytes of a module's frozen parameters."""
    return sum(value.nbytes for value in module.parameters() if not value.requires_grad)

"""What a run would read and what memory it would take, without running it: `finetune --dry-run …`.

Rows are encoded as they would be. The model is built from its configuration alone, on no device, so that
a folder with `config.json` and the processor's files is enough for a model of any size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from finetune.settings import FinetuneConfig
from pipelines.device import share
from pipelines.settings import Invocation
from pipelines.store import StoreReader

if TYPE_CHECKING:
    from finetune.omni import BaseModel
    from finetune.rater import Rater

FLAGS = {"dry-run": "tell what rows and memory a run would take, and run nothing; needs no --out"}
GIB = 2**30
# Of a weight in 4 bits: half a byte, and of each 64 a scale in 8 bits, of each 256 of those one in 32.
NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
# Of a trained parameter: itself, its gradient and Adam's two moments, all float32.
TRAINED_BYTES = 16


@dataclass(frozen=True, kw_only=True)
class Length:
    """How long a row's input is."""

    name: str
    tokens: int
    frames: int
    sound_s: float
    over: bool
    """Longer than `max_tokens`; the other figures are of what is shown then."""
    refused: bool
    """Its text alone is longer."""


def main(invocation: Invocation[FinetuneConfig]) -> None:
    """Print the report; the first process does."""
    if share().rank == 0:
        print("\n".join(report(invocation)))


def report(invocation: Invocation[FinetuneConfig]) -> list[str]:
    """The lines of a report.

    Raises:
        RunError: If the store has nothing to learn from.
        UsageError: If the model cannot be found or lacks what is asked for.
    """
    from finetune.evaluation import rated_rows
    from finetune.omni import adapted
    from finetune.rows import select

    config, reader = invocation.config, StoreReader(invocation.data)
    chosen, tests = select(reader, config.arm, invocation.seed, config.kinds), rated_rows(reader, "test")
    base = blank(config)
    lengths = measure(base, config, reader, [*chosen.ids, *(row["id"] for row in tests)])
    model = adapted(base, config, tests[0]["scale"], seed=0)
    return [
        f"rows: {len(chosen)} to train on, {len(tests)} to test on",
        *told_lengths(lengths, config.max_tokens),
        *told_memory(base, model, config, max(length.tokens for length in lengths)),
    ]


def blank(config: FinetuneConfig) -> BaseModel:
    """The configured model without weights."""
    import torch
    import transformers

    from finetune.omni import SAFE, BaseModel, load_processor, source_of

    family, processor = load_processor(config.model, config.revision)
    model_class = getattr(transformers, family.model_class)
    # A model inside a larger one finds its own configuration in the larger one's.
    config_class = getattr(model_class, "config_class", None) or transformers.AutoConfig
    settings = config_class.from_pretrained(source_of(config.model), revision=config.revision, **SAFE)
    with torch.device("meta"):
        build = getattr(model_class, "from_config", None) or model_class._from_config
        model = build(settings)
    model.requires_grad_(False)
    model.name_or_path = config.model
    return BaseModel(
        name=config.model,
        revision=config.revision,
        family=family,
        thinker=model,
        processor=processor,
        max_pixels=config.max_pixels,
    )


def measure(base: BaseModel, config: FinetuneConfig, reader: StoreReader, ids: Sequence[str]) -> list[Length]:
    """How long each row's input is under the settings."""
    from finetune.inputs import InputError
    from finetune.saved_model import encoder_of

    held, free = encoder_of(base, config), encoder_of(base, replace(config, max_tokens=None))
    lengths = []
    for name in ids:
        row = reader.row(reader.index_of(name))
        encoded, refused = free(row), False
        over = config.max_tokens is not None and len(encoded.input_ids) > config.max_tokens
        if over:
            try:
                encoded = held(row)
            except InputError:
                refused = True
        lengths.append(_length(base, encoded, name=name, over=over, refused=refused))
    return lengths


def _length(base: BaseModel, encoded: Any, **about: Any) -> Length:
    frames, sound_s = 0, 0.0
    if encoded.video_grid_thw is not None:
        frames = int(encoded.video_grid_thw[0]) * base.processor.video_processor.temporal_patch_size
    if encoded.feature_attention_mask is not None:
        extractor = base.processor.feature_extractor
        sound_s = float(encoded.feature_attention_mask.sum()) * extractor.hop_length / extractor.sampling_rate
    return Length(tokens=len(encoded.input_ids), frames=frames, sound_s=sound_s, **about)


def told_lengths(lengths: Sequence[Length], max_tokens: int | None) -> Iterator[str]:
    """Lines about rows."""
    tokens = np.array([length.tokens for length in lengths])
    longest = max(lengths, key=lambda length: length.tokens)
    middle, most = np.percentile(tokens, [50, 95])
    yield f"tokens of a row: median {middle:.0f}, 95 % {most:.0f}, most {longest.tokens} ({longest.name})"
    frames = np.array([length.frames for length in lengths])
    sound_s = np.array([length.sound_s for length in lengths])
    yield f"frames of a row: median {np.median(frames):.0f}, most {frames.max()}"
    yield f"seconds of sound of a row: median {np.median(sound_s):.1f}, most {sound_s.max():.1f}"
    if max_tokens is not None:
        over = [length for length in lengths if length.over]
        refused = [length.name for length in over if length.refused]
        yield f"rows over {max_tokens} tokens: {len(over)}, which lose frames or sound"
        if refused:
            yield f"rows that cannot be brought under it: {len(refused)} ({', '.join(refused[:3])}, …)"


def told_memory(base: BaseModel, model: Rater, config: FinetuneConfig, longest: int) -> Iterator[str]:
    """Lines about parameters and memory, in GiB, of one process."""
    import torch

    trained = sum(value.numel() for value in model.parameters() if value.requires_grad)
    parameters = sum(value.numel() for value in model.parameters())
    yield f"parameters: {parameters / 1e9:.3f} billion, {trained / 1e6:.3f} million of them trained"
    parts = {
        "weights": weight_bytes(model, config),
        "adapter, gradients and Adam": float(trained * TRAINED_BYTES),
        "activations": activation_bytes(base.thinker.config, config, longest),
    }
    for name, size in parts.items():
        yield f"memory, {name}: {size / GIB:.2f} GiB"
    yield f"memory in all, roughly: {sum(parts.values()) / GIB:.2f} GiB"
    cut = cut_bytes(base, config) / GIB
    yield f"memory, of it what FSDP shares out: {cut:.2f} GiB"
    if torch.cuda.is_available():
        there = torch.cuda.get_device_properties(0).total_memory
        enough = "enough" if sum(parts.values()) < 0.9 * there else "not enough"
        yield f"memory of the GPU: {there / GIB:.2f} GiB, {enough}"


def number_bytes(config: FinetuneConfig) -> int:
    """Of a number in the frozen model."""
    from finetune.saved_model import base_dtype

    return base_dtype(config).itemsize


def weight_bytes(model: Rater, config: FinetuneConfig) -> float:
    """Of the frozen parameters."""
    import torch

    from finetune.quantized import KEPT

    frozen = sum(value.numel() for value in model.parameters() if not value.requires_grad)
    if config.quantize == "none":
        return float(frozen * number_bytes(config))
    layers = model.thinker.get_base_model().named_modules()
    packed = sum(
        layer.weight.numel()
        for name, layer in layers
        if isinstance(layer, torch.nn.Linear) and ".lora_" not in name and not name.startswith(tuple(KEPT))
    )
    return (frozen - packed) * number_bytes(config) + packed * NF4_BYTES


def cut_bytes(base: BaseModel, config: FinetuneConfig) -> float:
    """Of the frozen parameters that processes share out under FSDP."""
    from finetune.fsdp import layers_of

    layers = layers_of(base.family.decoder(base.thinker))
    frozen = sum(value.numel() for layer in layers for value in layer.parameters() if not value.requires_grad)
    return float(frozen * number_bytes(config))


def activation_bytes(model_config: Any, config: FinetuneConfig, longest: int) -> float:
    """What a forward pass keeps for the backward pass, roughly, if all rows are as long as the longest.

    A layer of the language model keeps of each token two inputs of norms and their outputs, queries, keys,
    values and what attention makes of them, 8 times its width, and four times its inner width; eager
    attention keeps two tables of all pairs of tokens besides. With gradient checkpointing a layer keeps its
    input, and one layer at a time keeps everything. Towers count where they are trained, in the same way
    and as if their tokens were as many as the language model's, times those that they merge. A kernel's
    working space is not counted.
    """
    text = model_config.get_text_config()
    kept = _kept(text, config, longest)
    for part, times in (("vision", 4), ("audio", 2)):
        tower = getattr(model_config, f"{part}_config", None)
        if tower is not None and part in config.adapt:
            kept += _kept(tower, config, times * longest)
    return kept * config.batch_size * number_bytes(config)


def _kept(layers: Any, config: FinetuneConfig, tokens: int) -> float:
    """Numbers that a row's tokens leave in some layers."""
    width, depth = layers.hidden_size, layers.num_hidden_layers
    inner = layers.intermediate_size
    if getattr(layers, "moe_intermediate_size", None):
        inner = layers.moe_intermediate_size * layers.num_experts_per_tok
    one = tokens * (8 * width + 4 * inner)
    if config.attention == "eager":
        one += 2 * layers.num_attention_heads * tokens**2
    return depth * tokens * width + one if config.gradient_checkpointing else depth * one

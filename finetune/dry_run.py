"""What a run would read and what memory it would take, without running it: `finetune --dry-run …`.

Rows are encoded as they would be. The model is built from its configuration alone, on no device, so that
a folder with `config.json` and the processor's files is enough for a model of any size. What a step takes
is counted in `finetune.training.memory_estimate`.
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
    import torch

    from finetune.inputs.batch import Encoded
    from finetune.model.loading import BaseModel
    from finetune.model.regressor import SentimentModel

GIB = 2**30
# Of a weight in 4 bits: half a byte, and of each 64 a scale in 8 bits, of each 256 of those one in 32.
NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
# Of a trained parameter: itself, its gradient and Adam's two moments, all float32.
TRAINED_BYTES = 16
PICTURE = ("pixel_values_videos", "video_grid_thw")
SOUND = ("input_features", "feature_attention_mask")
# Which code takes as much memory as another that needs a GPU.
ATTENTION = {"flash_attention_2": "sdpa"}


@dataclass(frozen=True, kw_only=True)
class Length:
    """How long a row's input is."""

    name: str
    tokens: int
    patches: int
    frames: int
    sound_s: float
    over: bool
    """Longer than `max_tokens`; the other figures are of what is shown then."""
    refused: bool
    """Its text alone is longer."""


def main(invocation: Invocation[FinetuneConfig]) -> None:
    """Print the report; the first process does."""
    if share().rank == 0:
        for line in report(invocation):
            print(line, flush=True)


def report(invocation: Invocation[FinetuneConfig]) -> Iterator[str]:
    """The lines of a report, each as soon as it is known.

    Raises:
        RunError: If the store has nothing to learn from, or rows of several scales, or the memory of a step
            cannot be told.
        UsageError: If the model cannot be found or lacks what is asked for, or if rows have nothing of what
            it is shown.
    """
    from finetune.inputs.dataset import select
    from finetune.inputs.scales import common_scale
    from finetune.inputs.shown_modalities import check_shown, shown_modalities
    from finetune.model.adapters import adapted
    from finetune.model.saved_model import base_dtype
    from finetune.training.validation import rated_rows

    config, reader = invocation.config, StoreReader(invocation.data)
    base_dtype(config)
    chosen, tests = select(reader, config.arm, invocation.seed, config.kinds), rated_rows(reader, "test")
    tested = [row["id"] for row in tests]
    ids = [*chosen.ids, *tested]
    scale = common_scale(reader, ids)
    base = blank(config)
    shown = shown_modalities(base.family.modalities, base.name, config.modalities)
    rows = {"rows to train on": chosen.ids, "originals of test": tested}
    check_shown(reader, rows, shown, named=config.modalities is not None)
    lengths = measure(base, config, reader, ids)
    yield f"rows: {len(chosen)} to train on, {len(tests)} to test on"
    yield from length_lines(lengths, config.max_tokens)
    model = adapted(base, config, scale, seed=0)
    yield from memory_lines(base, model, config, extremes(base, config, reader, lengths))


def blank(config: FinetuneConfig) -> BaseModel:
    """The configured model without weights, of the type and attention that it would be loaded with."""
    import torch
    import transformers

    from finetune.model.loading import BaseModel, load_processor, source_of
    from finetune.model.saved_model import base_dtype
    from pipelines.pretrained import SAFE

    family, processor = load_processor(config.model, config.revision)
    model_class = getattr(transformers, family.model_class)
    # A model inside a larger one finds its own configuration in the larger one's.
    config_class = getattr(model_class, "config_class", None) or transformers.AutoConfig
    settings = config_class.from_pretrained(source_of(config.model), revision=config.revision, **SAFE)
    loaded: dict[str, Any] = {"dtype": base_dtype(config)}
    if config.attention != "auto":
        loaded["attn_implementation"] = ATTENTION.get(config.attention, config.attention)
    with torch.device("meta"):
        build = getattr(model_class, "from_config", None) or model_class._from_config
        model = build(settings, **loaded)
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
    from finetune.inputs.batch import InputError
    from finetune.model.saved_model import encoder_of

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
    patches, frames, sound_s = 0, 0, 0.0
    if encoded.video_grid_thw is not None:
        patches = int(encoded.video_grid_thw.prod())
        frames = int(encoded.video_grid_thw[0]) * base.processor.video_processor.temporal_patch_size
    if encoded.feature_attention_mask is not None:
        extractor = base.processor.feature_extractor
        sound_s = float(encoded.feature_attention_mask.sum()) * extractor.hop_length / extractor.sampling_rate
    tokens = len(encoded.input_ids)
    return Length(tokens=tokens, patches=patches, frames=frames, sound_s=sound_s, **about)


def extremes(
    base: BaseModel, config: FinetuneConfig, reader: StoreReader, lengths: Sequence[Length]
) -> tuple[Encoded, Encoded, Encoded]:
    """The rows with the most tokens, the largest picture and the longest sound, as the model reads them."""
    from finetune.model.saved_model import encoder_of

    def encoded(length: Length) -> Encoded:
        shown = replace(config, max_tokens=None) if length.refused else config
        return encoder_of(base, shown)(reader.row(reader.index_of(length.name)))

    longest, largest, loudest = (
        max(lengths, key=lambda length: getattr(length, size)) for size in ("tokens", "patches", "sound_s")
    )
    return encoded(longest), encoded(largest), encoded(loudest)


def length_lines(lengths: Sequence[Length], max_tokens: int | None) -> Iterator[str]:
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


def memory_lines(
    base: BaseModel, model: SentimentModel, config: FinetuneConfig, rows: tuple[Encoded, Encoded, Encoded]
) -> Iterator[str]:
    """Lines about parameters and memory, in GiB, of one process.

    Args:
        base: The model.
        model: The same with adapter and head; it is used up.
        config: The run's settings.
        rows: Of `extremes`.
    """
    import torch

    trained = sum(value.numel() for value in model.parameters() if value.requires_grad)
    parameters = sum(value.numel() for value in model.parameters())
    yield f"parameters: {parameters / 1e9:.3f} billion, {trained / 1e6:.3f} million of them trained"
    fixed = {"weights": weight_bytes(model, config), "adapter, gradients and Adam": trained * TRAINED_BYTES}
    cut = cut_bytes(base)
    for name, size in fixed.items():
        yield f"memory, {name}: {size / GIB:.2f} GiB"
    asked, step = step_bytes(model, config, rows)
    yield f"memory, towers: {asked / GIB:.2f} GiB"
    yield f"memory, activations: {step / GIB:.2f} GiB"
    # Towers are asked before there are activations, or those that they leave count among these.
    whole = sum(fixed.values()) + max(asked, step)
    yield f"memory in all, roughly: {whole / GIB:.2f} GiB"
    yield f"memory, of it what FSDP shares out: {cut / GIB:.2f} GiB"
    if torch.cuda.is_available():
        there = torch.cuda.get_device_properties(0).total_memory
        enough = "enough" if whole < 0.9 * there else "not enough"
        yield f"memory of the GPU: {there / GIB:.2f} GiB, {enough}"


def step_bytes(
    model: SentimentModel, config: FinetuneConfig, rows: tuple[Encoded, Encoded, Encoded]
) -> tuple[int, int]:
    """What the towers take at most when they are asked, and what a forward and backward pass takes.

    Frozen towers are asked before a language model has anything to keep, where their answers are kept
    about one picture at a time, as `finetune.tower_cache.frozen_towers` does. A batch is as many rows
    as `config.batch_size` says, all of them the longest.
    """
    from finetune.inputs.batch import collate
    from finetune.training.memory_estimate import Rehearsal

    frozen, size = config.towers_are_frozen, config.batch_size
    rehearsal, (longest, largest, loudest) = Rehearsal(model, shallow=frozen), rows
    answer = getattr(model.head, "answer", None)
    if answer is not None:
        longest = longest.answered(answer(0.0))
    if not frozen:
        # One row, and so many times what it takes: a vision tower attends window by window.
        batch = collate([longest], 0)
        return size * rehearsal.asked(batch)[1], size * rehearsal.step(batch)
    at_once = size if config.tower_cache == "none" else 1
    asked = [0]
    made: dict[str, torch.Tensor] = {}
    for row, count, names in ((largest, at_once, PICTURE), (loudest, size, SOUND)):
        clips = {name: value for name, value in collate([row], 0).items() if name in names}
        if clips:
            kept, peak = rehearsal.asked(clips)
            asked, made = [*asked, count * peak], made | kept
    return max(asked), rehearsal.step(collate([_stood_in(model, longest, made)] * size, 0))


def _stood_in(model: SentimentModel, row: Encoded, made: dict[str, torch.Tensor]) -> Encoded:
    """A row with tensors such as towers `made` of others in place of its media."""
    from finetune.tower_cache.frozen_towers import with_embeds

    features = {}
    for name, kind in (("video_embeds", "video"), ("audio_embeds", "audio")):
        count = int((row.input_ids == getattr(model.base.config, f"{kind}_token_id", -1)).sum())
        features[name] = made[name].new_empty(count, made[name].shape[1]) if count else None
    return with_embeds(row, **features)


def weight_bytes(model: SentimentModel, config: FinetuneConfig) -> float:
    """Of the frozen parameters."""
    import torch

    from finetune.model.quantization import is_kept

    frozen = frozen_bytes(model)
    if config.quantize == "none":
        return frozen
    layers = model.thinker.get_base_model().named_modules()
    packed = [
        layer.weight
        for name, layer in layers
        if isinstance(layer, torch.nn.Linear) and ".lora_" not in name and not is_kept(name)
    ]
    return frozen - sum(weight.nbytes - weight.numel() * NF4_BYTES for weight in packed)


def cut_bytes(base: BaseModel) -> int:
    """Of the frozen parameters that processes share out under FSDP."""
    from finetune.model.fsdp import layers_of

    return frozen_bytes(layers_of(base.family.decoder(base.thinker)))


def frozen_bytes(module: torch.nn.Module) -> int:
    """Of a module's frozen parameters."""
    return sum(value.nbytes for value in module.parameters() if not value.requires_grad)

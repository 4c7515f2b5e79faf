"""Speed and memory of training, compared with the standard recipe.

    python -m benchmarks.finetune.speed --out DIR [--data STORE | --clips 96] [--epochs 3]

**Speed.** The standard recipe is transformers' Trainer with its own loss, the model's processor in the
collator on decoded clips, all towers at each step, and logits for all tokens. Ours is `finetune` with the
head `answer` and a tower cache that is empty at first. Both train the embedded model with the same adapter
on the same rows in the same order, each with weight 1.

**Logits.** Memory of a step above the loaded model, with logits for all tokens and for the answers' only,
at a vocabulary of 152,000.

Writes `benchmark.json` and `benchmark.md`; every figure is of one run on one machine.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import Trainer
from transformers.trainer_utils import SaveStrategy

from benchmarks.commands import import_puppets, require_at_least, table, write_report
from benchmarks.finetune.step_memory import logits
from benchmarks.measurement import MIB
from finetune.inputs.dataset import EncodedRows, EpochOrder, Selection
from finetune.model.adapters import adapted
from finetune.model.loading import BaseModel, load_base
from finetune.model.saved_model import encoder_of
from finetune.settings import FinetuneConfig
from finetune.training.arguments import training_arguments
from pipelines.errors import UsageError, call
from pipelines.row import digest
from pipelines.store import StoreReader

if TYPE_CHECKING:
    from finetune.inputs.chat_encoder import ChatEncoder
    from finetune.model.regressor import SentimentModel
    from pipelines.row import Row

BATCH = 8
SEED = 1
SIDE = 384
"""Pixels per side of a clip as corpora have it."""


def main(argv: list[str]) -> None:
    """Run both parts and write the report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.finetune.speed", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="a working folder")
    parser.add_argument("--data", type=Path, metavar="STORE", help="a store of your own instead of puppets")
    parser.add_argument("--clips", type=int, default=96, help="puppets over all splits (default: 96)")
    parser.add_argument("--epochs", type=int, default=3, help="(default: 3)")
    options = parser.parse_args(argv)
    require_at_least(options, clips=BATCH, epochs=1)
    if options.data:
        speeds = {str(options.data): speed(options.data, options.out / "data", options.epochs)}
    else:  # puppets at their own size, and at that of camera clips
        small = import_puppets(options.out / "drawn", clips=options.clips, seed=0)
        large = enlarged(small, options.out / "enlarged")
        stores = {"puppets, 64 px": small, f"puppets, {SIDE} px": large}
        speeds = {name: speed(store, options.out / name, options.epochs) for name, store in stores.items()}
    report = {"speed": speeds, "logits": logits()}
    write_report(options.out, report, markdown(report))


def enlarged(store: Path, out: Path) -> Path:
    """A store with its frames at `SIDE` pixels, twice the frame rate, and a little noise."""
    from PIL import Image

    from pipelines import media
    from pipelines.row import media as in_row
    from pipelines.store import commit, committed_generation

    def rows() -> Iterator[Row]:
        for number, row in enumerate(StoreReader(store).rows()):
            clip = media.read_video(row["video"]["bytes"])
            frames = np.stack(
                [np.asarray(Image.fromarray(frame).resize((SIDE, SIDE))) for frame in clip.frames]
            )
            noise = np.random.default_rng(number).integers(-6, 7, (2 * len(frames), SIDE, SIDE, 3))
            frames = np.clip(frames.repeat(2, axis=0) + noise, 0, 255).astype(np.uint8)
            encoded = in_row(media.encode_video(frames, 2 * clip.fps))
            yield row | {"video": encoded, "fps": 2 * clip.fps}

    settings = json.loads((store / "settings.json").read_text(encoding="utf-8"))
    commit(out, rows(), generation=digest([committed_generation(store), SIDE]), settings=settings)
    return out


def speed(store: Path, out: Path, epochs: int) -> dict[str, Any]:
    """Seconds and losses of both trainings."""
    reader = StoreReader(store)
    chosen = whole_batches(reader)
    config = FinetuneConfig(
        head="answer", epochs=epochs, batch_size=BATCH, device="cpu", precision="float32", log_every=1,
        learning_rate=1e-3, video_fps=4, max_frames=8, save_every=10**9,
    )  # fmt: skip
    figures = {name: run(config, reader, chosen, out / name) for name, run in TRAININGS.items()}
    losses = np.array([each["losses"] for each in figures.values()])
    samples = epochs * len(chosen)
    return {
        "rows": len(chosen),
        "epochs": epochs,
        "samples_per_second": {name: samples / each["seconds"] for name, each in figures.items()},
        "ratio": figures["in use"]["seconds"] / figures["ours"]["seconds"],
        "largest_difference_of_losses": float(np.abs(losses[0] - losses[1]).max()),
        "losses": losses[:, [0, -1]].tolist(),
    }


def whole_batches(reader: StoreReader) -> Selection:
    """The first training rows that fill whole batches.

    Raises:
        UsageError: If there are too few for one.
    """
    columns = reader.table.select(["id", "split", "label"]).to_pylist()
    rows = [row for row in columns if row["split"] == "train"]
    if len(rows) < BATCH:
        raise UsageError(
            f"{reader.directory}: got {len(rows)} training rows, takes {BATCH} or more; give another --data,"
            " or more --clips"
        )
    rows = rows[: len(rows) // BATCH * BATCH]
    return Selection(
        ids=[row["id"] for row in rows],
        labels=[row["label"] for row in rows],
        weights=[1.0] * len(rows),
        kinds=["original"] * len(rows),
    )


def train_ours(config: FinetuneConfig, reader: StoreReader, chosen: Selection, out: Path) -> dict[str, Any]:
    """The stage's own training, including decoding and the single pass of the frozen towers."""
    from finetune.run import make_trainer
    from finetune.tower_cache.frozen_towers import frozen_towers

    model, plain, _ = built(config)
    encoder = frozen_towers(plain, model.base, config, out)
    inputs = EncodedRows(reader, encoder, config.cache_mb)
    return timed(make_trainer(config, model, inputs, training_arguments(config, out, SEED), chosen, out))


def train_as_in_use(
    config: FinetuneConfig, reader: StoreReader, chosen: Selection, out: Path
) -> dict[str, Any]:
    """transformers' Trainer with a collator that calls the processor."""
    model, encoder, base = built(config)
    order = EpochOrder(len(chosen), BATCH, SEED)
    steps = []
    for order.epoch in range(config.epochs):
        steps += [(chosen.ids[index], chosen.labels[index]) for index in order]
    arguments = training_arguments(config, out, SEED)
    arguments.num_train_epochs, arguments.train_sampling_strategy = 1, "sequential"
    arguments.save_strategy = SaveStrategy.NO
    trainer = Trainer(
        model=model.thinker,
        args=arguments,
        train_dataset=steps,
        data_collator=lambda rows: by_processor(base, encoder, model, reader, rows),
    )
    return timed(trainer)


TRAININGS = {"in use": train_as_in_use, "ours": train_ours}


def built(config: FinetuneConfig) -> tuple[SentimentModel, ChatEncoder, BaseModel]:
    """The embedded model with a fresh adapter."""
    base = load_base(config.model, None, dtype=torch.float32, max_pixels=None)
    return adapted(base, config, "mosi", seed=SEED), encoder_of(base, config), base


def timed(trainer: Trainer) -> dict[str, Any]:
    """Train, and return the seconds of all epochs and the loss of each step."""
    seconds = trainer.train().metrics["train_runtime"]  # without the start-up, which is the same in both
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return {"seconds": seconds, "losses": losses}


def by_processor(
    base: BaseModel,
    encoder: ChatEncoder,
    model: SentimentModel,
    reader: StoreReader,
    rows: Sequence[tuple[str, float]],
) -> dict[str, torch.Tensor]:
    """A batch from the model's processor: decoded, processed, tokenized, with labels on the answers only."""
    clips = [reader.row(reader.index_of(row_id)) for row_id, _ in rows]
    decoded = [encoder.decoded(row, encoder.budget.max_frames) for row in clips]
    answers = [model.head.answer(label) for _, label in rows]  # type: ignore[operator]
    tokenizer = base.processor.tokenizer
    batch = base.processor(
        text=[prompt(encoder, row) + tokenizer.decode(ids) for row, ids in zip(clips, answers, strict=True)],
        videos=[clip.frames.permute(0, 3, 1, 2) for clip in decoded if clip.frames is not None],
        audio=[clip.samples.numpy() for clip in decoded if clip.samples is not None],
        videos_kwargs={
            "do_sample_frames": False,
            "cap_pixels_per_frame": False,
            "fps": float(encoder.budget.video_fps),
            "size": encoder.video_chat.size(base.processor, encoder.budget.max_frames, None),
        },
        audio_kwargs={"sampling_rate": 16_000},
        padding=True,
        return_tensors="pt",
    )
    labels = torch.full_like(batch["input_ids"], -100)
    for label, ids in zip(labels, answers, strict=True):
        label[-len(ids) :] = torch.tensor(ids)  # padding is on the left
    # The processor uses the requested frame rate, which long clips do not have.
    patch = base.processor.video_processor.temporal_patch_size
    batch["video_second_per_grid"] = torch.tensor([patch / clip.fps for clip in decoded])
    return dict(batch) | {"labels": labels}


def prompt(encoder: ChatEncoder, row: Row) -> str:
    """The chat for a row, as text."""
    from finetune.inputs.question import answer_format, quoted, rating_question

    assert encoder.chat.audio is not None
    clip = f"<|vision_bos|>{encoder.video_chat.token}<|vision_eos|>{encoder.chat.audio.text}"
    question = rating_question(row["scale"], row["language"], row["corpus"])
    question += answer_format(encoder.head, row["scale"], row["language"])
    said = "".join(quoted(row["text"], row["language"]))
    return f"{encoder.opening}{clip}{said}{question}{encoder.closing}"


def markdown(report: dict[str, Any]) -> str:
    """The report as Markdown."""
    large = report["logits"]
    sizes = large["bytes"]
    step = f"{large['rows']} × {large['tokens']} tokens, vocabulary {large['vocabulary']:,}"
    rows = []
    for name, fast in report["speed"].items():
        rates = [f"{fast['samples_per_second'][method]:.1f}" for method in ("in use", "ours")]
        title = f"samples per second, {name}, {fast['epochs']} epochs of {fast['rows']} rows"
        rows.append([title, *rates, f"{fast['ratio']:.1f}"])
    memory = [f"{sizes[kind] / MIB:.0f}" for kind in ("full", "answers")]
    rows.append([f"MiB of a step, {step}", *memory, f"{large['ratio']:.2f}"])
    most = max(fast["largest_difference_of_losses"] for fast in report["speed"].values())
    head = ["", "standard recipe", "ours", "ratio"]
    return f"{table(head, rows)}\n\nThe losses of all steps differ by at most {most:.1e}.\n"


if __name__ == "__main__":
    call(main)

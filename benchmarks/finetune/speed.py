"""How fast and how large training is, beside the recipe in use.

    python -m benchmarks.finetune.speed --out DIR [--data STORE | --clips 96] [--epochs 3]

**Speed.** The recipe in use is transformers' Trainer with its own loss, the model's processor called in
the collator on decoded clips, all towers asked at each step, and logits for all tokens. Ours is what
`finetune` does with the head `answer` and a tower cache that is empty at first. Both train the
embedded model with the same adapter on the same rows in the same order, each row counting 1.

**Logits.** What a step takes above the loaded model, with logits for all tokens and for the answers'
alone, at a vocabulary of 152,000.

Writes `benchmark.json` and `benchmark.md`; every figure is of one run on one machine.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import Trainer, TrainerCallback

from benchmarks.finetune.step_memory import logits
from finetune.inputs.dataset import EncodedRows, EpochOrder, Selection
from finetune.model.adapters import adapted
from finetune.model.loading import BaseModel, load_base
from finetune.model.saved_model import encoder_of
from finetune.settings import FinetuneConfig
from finetune.training.arguments import training_arguments
from pipelines.atomic import write_json, write_text
from pipelines.errors import call
from pipelines.row import digest
from pipelines.settings import parse_stage
from pipelines.store import StoreReader

if TYPE_CHECKING:
    from finetune.inputs.chat_encoder import ChatEncoder
    from finetune.model.regressor import SentimentModel
    from pipelines.row import Row

BATCH = 8
SEED = 1
SIDE = 384
"""Pixels of a clip as cameras and corpora have it."""


def main(argv: list[str]) -> None:
    """Run both parts and write the report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.finetune.speed", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="a working folder")
    parser.add_argument("--data", type=Path, metavar="STORE", help="a store of your own instead of puppets")
    parser.add_argument("--clips", type=int, default=96, help="puppets over all splits (default: 96)")
    parser.add_argument("--epochs", type=int, default=3, help="(default: 3)")
    options = parser.parse_args(argv)
    report = {"speed": speeds(options.data, options.out, options.clips, options.epochs), "logits": logits()}
    write_json(options.out / "benchmark.json", report)
    write_text(options.out / "benchmark.md", markdown(report))
    print(markdown(report))


def puppets(out: Path, clips: int) -> Path:
    """A store of puppets."""
    from pipelines import importing

    argv = ["--out", str(out), "--seed", "0", "--corpus.clips", str(clips)]
    importing.run(parse_stage(importing.ImportConfig, "corpus", argv, prog="daq-msa import", needs=("out",)))
    return out


def enlarged(store: Path, out: Path) -> Path:
    """A store with its pictures at `SIDE` pixels, twice as many frames a second, and a little noise."""
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


def speeds(data: Path | None, out: Path, clips: int, epochs: int) -> dict[str, Any]:
    """Both trainings on a store, or on puppets as they are drawn and as large as clips of cameras."""
    if data:
        return {str(data): speed(data, out / "data", epochs)}
    drawn = puppets(out / "drawn", clips)
    stores = {"puppets, 64 px": drawn, f"puppets, {SIDE} px": enlarged(drawn, out / "enlarged")}
    return {name: speed(store, out / name, epochs) for name, store in stores.items()}


def speed(store: Path, out: Path, epochs: int) -> dict[str, Any]:
    """Seconds and losses of both trainings."""
    reader = StoreReader(store)
    chosen = whole_batches(reader)
    config = FinetuneConfig(
        head="answer", epochs=epochs, batch_size=BATCH, device="cpu", precision="float32", log_every=1,
        learning_rate=1e-3, video_fps=4, max_frames=8, save_every=10**9,
    )  # fmt: skip
    told = {name: run(config, reader, chosen, out / name) for name, run in TRAININGS.items()}
    losses = np.array([told[name]["losses"] for name in TRAININGS])
    samples = epochs * len(chosen)
    return {
        "rows": len(chosen),
        "epochs": epochs,
        "samples_per_second": {name: samples / figures["seconds"] for name, figures in told.items()},
        "ratio": told["in use"]["seconds"] / told["ours"]["seconds"],
        "largest_difference_of_losses": float(np.abs(losses[0] - losses[1]).max()),
        "losses": losses[:, [0, -1]].tolist(),
    }


def whole_batches(reader: StoreReader) -> Selection:
    """Training originals, as many as fill whole batches."""
    columns = reader.table.select(["id", "split", "label"]).to_pylist()
    rows = [row for row in columns if row["split"] == "train"]
    rows = rows[: len(rows) // BATCH * BATCH]
    return Selection(
        ids=[row["id"] for row in rows],
        labels=[row["label"] for row in rows],
        weights=[1.0] * len(rows),
        kinds=["original"] * len(rows),
    )


def train_ours(config: FinetuneConfig, reader: StoreReader, chosen: Selection, out: Path) -> dict[str, Any]:
    """The stage's own training, decoding and the towers' first and only answers included."""
    from finetune.run import make_trainer
    from finetune.tower_cache.frozen_towers import frozen_towers

    model, plain, _ = built(config)
    encoder = frozen_towers(plain, model.base, config, out)
    inputs = EncodedRows(reader, encoder, config.cache_mb)
    return timed(make_trainer(config, model, inputs, training_arguments(config, out, SEED), chosen, out))


def train_as_in_use(
    config: FinetuneConfig, reader: StoreReader, chosen: Selection, out: Path
) -> dict[str, Any]:
    """transformers' Trainer as it is, with a collator that calls the processor."""
    model, encoder, base = built(config)
    order = EpochOrder(len(chosen), BATCH, SEED)
    steps = []
    for order.epoch in range(config.epochs):
        steps += [(chosen.ids[index], chosen.labels[index]) for index in order]
    arguments = training_arguments(config, out, SEED)
    arguments.num_train_epochs, arguments.train_sampling_strategy = 1, "sequential"
    trainer = Trainer(
        model=model.thinker,
        args=arguments,
        train_dataset=steps,
        data_collator=lambda rows: by_processor(base, encoder, model, reader, rows),
        callbacks=[_Quiet()],
    )
    return timed(trainer)


TRAININGS = {"in use": train_as_in_use, "ours": train_ours}


class _Stopwatch(TrainerCallback):
    """From the first epoch's begin to the last one's end; the Trainer's start, alike in both, is left out."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.started = time.perf_counter()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.seconds = time.perf_counter() - self.started


class _Quiet(TrainerCallback):
    """Saves nothing."""

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        control.should_save = False


def built(config: FinetuneConfig) -> tuple[SentimentModel, ChatEncoder, BaseModel]:
    """The embedded model with a fresh adapter."""
    base = load_base(config.model, None, dtype=torch.float32, max_pixels=None)
    return adapted(base, config, "mosi", seed=SEED), encoder_of(base, config), base


def timed(trainer: Trainer) -> dict[str, Any]:
    """Train; the seconds that the epochs took, and the loss of each step."""
    watch = _Stopwatch()
    trainer.add_callback(watch)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return {"seconds": watch.seconds, "losses": losses}


def by_processor(
    base: BaseModel,
    encoder: ChatEncoder,
    model: SentimentModel,
    reader: StoreReader,
    rows: Sequence[tuple[str, float]],
) -> dict[str, torch.Tensor]:
    """A batch by the model's processor: decoded, processed, tokenized, and labelled on the answers alone."""
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
        label[-len(ids) :] = torch.tensor(ids)  # padding stands at the front
    # Its own is that of the rate asked for, which long clips do not have.
    patch = base.processor.video_processor.temporal_patch_size
    batch["video_second_per_grid"] = torch.tensor([patch / clip.fps for clip in decoded])
    return dict(batch) | {"labels": labels}


def prompt(encoder: ChatEncoder, row: Row) -> str:
    """The chat that a row is asked about in, as text."""
    from finetune.inputs.prompts import answer_format, quoted, rating_question

    assert encoder.chat.audio is not None
    clip = f"<|vision_bos|>{encoder.video_chat.token}<|vision_eos|>{encoder.chat.audio.text}"
    question = rating_question(row["scale"], row["language"], row["corpus"])
    question += answer_format(encoder.head, row["scale"], row["language"])
    said = "".join(quoted(row["text"], row["language"]))
    return f"{encoder.opening}{clip}{said}{question}{encoder.closing}"


def markdown(report: dict[str, Any]) -> str:
    """The report in words and numbers."""
    large = report["logits"]
    sizes = large["bytes"]
    step = f"{large['rows']} × {large['tokens']} tokens, vocabulary {large['vocabulary']:,}"
    lines = ["| | the recipe in use | ours | ratio |", "|---|---|---|---|"]
    for name, fast in report["speed"].items():
        rates = fast["samples_per_second"]
        lines.append(
            f"| samples a second, {name}, {fast['epochs']} epochs of {fast['rows']} rows"
            f" | {rates['in use']:.1f} | {rates['ours']:.1f} | {fast['ratio']:.1f} |"
        )
    lines.append(
        f"| MiB that a step takes, {step} | {sizes['full'] / 2**20:.0f} | {sizes['answers'] / 2**20:.0f}"
        f" | {large['ratio']:.2f} |"
    )
    most = max(fast["largest_difference_of_losses"] for fast in report["speed"].values())
    return "\n".join(lines) + f"\n\nThe losses of all steps differ by {most:.1e} at most.\n"


if __name__ == "__main__":
    call(main)

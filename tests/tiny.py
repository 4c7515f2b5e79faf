"""Tiny models of real architectures, built from their configs, and tiny stores to try them on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from finetune.inputs.question import rating_question
from finetune.thinker.architecture import ThinkerSize, initialised, make_processor, make_tokenizer
from pipelines import media
from pipelines.row import digest, new_row, variant_id
from pipelines.row import media as in_row
from pipelines.store import commit

THINKER = ThinkerSize(
    width=16,
    heads=2,
    language_layers=2,
    vision_layers=1,
    audio_layers=1,
    mel_bins=16,
    frame_px=32,
    patch_px=8,
    chunk_s=2,
)
TEXTS = ("a good film", "a bad film", "what a story that was", "i like it", "i do not like it")


def thinker(directory: Path) -> Path:
    """Save a thinker with random weights and its processor; returns the directory."""
    words = [rating_question("mosi", "en"), "system\nYou are a helpful assistant. user assistant\n", *TEXTS]
    tokenizer = make_tokenizer(words, 400)
    make_processor(tokenizer, THINKER).save_pretrained(directory)
    initialised(tokenizer, THINKER, seed=0).save_pretrained(directory)
    return directory


def row(number: int, split: str = "train", **changes: Any) -> dict[str, Any]:
    """An original: coloured noise that moves, a tone, a sentence; about 0.6 s."""
    rng = np.random.default_rng(number)
    frames = rng.integers(0, 256, size=(6, 32, 32, 3), dtype=np.uint8)
    samples = 0.2 * np.sin(2 * np.pi * (200 + 40 * number) * np.arange(9_600) / 16_000).astype(np.float32)
    made = new_row(
        id=f"tiny/{split}/{number}",
        source_id=f"tiny/{split}/{number}",
        kind="original",
        split=split,
        group=f"{split}{number % 3}",
        video=in_row(media.encode_video(frames, 10.0)),
        audio=in_row(media.encode_audio(samples)),
        text=TEXTS[number % len(TEXTS)],
        label=float(rng.uniform(-3, 3)),
        corpus="tiny",
        scale="mosi",
        language="en",
        duration_s=0.6,
        fps=10.0,
        generator=json.dumps({}),
    )
    return made | changes


def variant(number: int, weight: float | None, kind: str = "video", **changes: Any) -> dict[str, Any]:
    """A variant of the training original with this number, its media those of another row."""
    other = row(number + 100)
    source = row(number)
    changed = {
        "id": variant_id(source["id"], kind, 0),
        "kind": kind,
        "weight": weight,
        "video": other["video"],
    }
    return source | changed | changes


def store(directory: Path, rows: list[dict[str, Any]]) -> Path:
    """Write rows as a store; returns the directory."""
    settings = {"stage": "score", "title": "Tiny", "description": "", "command": "", "versions": {}}
    generation = digest([[item["id"], item["weight"], item["label"], item["text"]] for item in rows])
    commit(directory, rows, generation=generation, settings=settings)
    return directory

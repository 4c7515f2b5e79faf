"""Feature files and stores made on the spot; in the files the label shows in every modality, in text most."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from finetune.fusion.features.arrays import FeatureSet
from pipelines import media
from pipelines.row import media as held
from pipelines.row import new_row
from pipelines.store import commit

STEPS = {"text": 6, "audio": 14, "vision": 9}
DIMENSIONS = {"text": 8, "audio": 3, "vision": 4}
RATE = 16_000
NOISE = {"text": 0.5, "audio": 2.0, "vision": 2.0}


def mmsa_content(
    clips: tuple[int, int, int] = (40, 12, 12), *, aligned: bool = False, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """Splits in the layout of MMSA's `unaligned_50.pkl`, or of `aligned_50.pkl`."""
    rng = np.random.default_rng(seed)
    directions = {key: rng.normal(size=size) for key, size in DIMENSIONS.items()}
    return {
        split: _split(rng, count, directions, aligned)
        for split, count in zip(("train", "valid", "test"), clips, strict=True)
    }


def _split(
    rng: np.random.Generator, count: int, directions: dict[str, np.ndarray], aligned: bool
) -> dict[str, Any]:
    labels = rng.uniform(-3, 3, size=count).round(1).astype(np.float32)
    arrays: dict[str, Any] = {
        "raw_text": np.array([f"sentence {number}" for number in range(count)]),
        "id": [f"video{number // 4}$_${number % 4}" for number in range(count)],
        "annotations": ["Positive" if label > 0 else "Negative" for label in labels],
        "classification_labels": np.sign(labels) + 1,
        "regression_labels": labels,
    }
    lengths = {key: rng.integers(max(1, steps // 2), steps + 1, size=count) for key, steps in STEPS.items()}
    for key, direction in directions.items():
        steps = STEPS["text" if aligned else key]
        length = lengths["text" if aligned else key]
        shown = np.arange(steps) < length[:, None]
        signal = labels + NOISE[key] * rng.normal(size=count)
        values = rng.normal(size=(count, steps, len(direction))) + signal[:, None, None] * direction
        arrays[key] = np.where(shown[..., None], values, 0).astype(np.float32)
        if key == "text":
            ids = rng.integers(1, 99, size=(count, steps))
            arrays["text_bert"] = np.stack([ids * shown, shown, np.zeros_like(shown)], axis=1).astype(
                np.int64
            )
        elif not aligned:
            arrays[f"{key}_lengths"] = length.tolist()
    return arrays


def write(path: Path, content: Any) -> Path:
    """Pickle as Python 3 does by default."""
    path.write_bytes(pickle.dumps(content))
    return path


def tone(hertz: float, seconds: float = 0.5) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * hertz * np.arange(int(RATE * seconds)) / RATE)).astype(np.float32)


def stripes(*, vertical: bool, brightness: int = 200) -> np.ndarray:
    frame = np.zeros((32, 32, 3), dtype=np.uint8)
    frame[:, (np.arange(32) // 4) % 2 == 0] = brightness
    return np.stack([frame if vertical else frame.transpose(1, 0, 2)] * 4)


def row(number: int, split: str, **changes: Any) -> dict[str, Any]:
    values = {
        "id": f"made/{split}/{number}",
        "source_id": f"made/{split}/{number}",
        "kind": "original",
        "split": split,
        "group": split,
        "video": held(media.encode_video(stripes(vertical=number % 2 == 0), 8.0)),
        "audio": held(media.encode_audio(tone(200 + 100 * number))),
        "text": "a good day" if number % 2 else "bad",
        "label": float(number % 3) - 1,
        "label_audio": 0.5,
        "corpus": "made",
        "scale": "mosi",
        "language": "en",
        "duration_s": 0.5,
        "fps": 8.0,
    }
    return new_row(**(values | changes))


def store(path: Path, rows: list[dict[str, Any]]) -> Path:
    settings = {"title": "made", "description": "made", "versions": {}, "stage": "test", "command": ""}
    commit(path, rows, generation="0" * 64, settings=settings)
    return path


def rows() -> list[dict[str, Any]]:
    counts = {"train": 4, "valid": 2, "test": 2}
    return [row(number, split) for split, count in counts.items() for number in range(count)]


def assert_equal(found: FeatureSet, wanted: FeatureSet) -> None:
    """Two feature sets are the same to the bit."""
    assert (found.scale, found.not_finite) == (wanted.scale, wanted.not_finite)
    for name, standard in wanted.standards.items():
        assert np.array_equal(found.standards[name].mean, standard.mean)
        assert np.array_equal(found.standards[name].deviation, standard.deviation)
    assert list(found.splits) == list(wanted.splits)
    for name, split in wanted.splits.items():
        mine = found.splits[name]
        assert mine.ids == split.ids
        assert np.array_equal(mine.labels, split.labels)
        assert np.array_equal(mine.weights, split.weights)
        assert list(mine.features) == list(split.features)
        for key, steps in split.features.items():
            assert mine.features[key].values.dtype == np.float32
            assert np.array_equal(mine.features[key].values, steps.values)
            assert np.array_equal(mine.features[key].mask, steps.mask)
            assert np.array_equal(mine.unimodal[key], split.unimodal[key], equal_nan=True)

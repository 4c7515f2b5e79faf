"""Feature files made on the spot: clips whose label shows in every modality, in text most clearly."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np

STEPS = {"text": 6, "audio": 14, "vision": 9}
DIMENSIONS = {"text": 8, "audio": 3, "vision": 4}
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

"""Two clips for the tests of corruptions, and how far apart two tracks are."""

from __future__ import annotations

import numpy as np

from tests.score.clips import face, voice


def own() -> dict[str, np.ndarray]:
    """A clip's tracks."""
    return {"video": face(0, np.random.default_rng(0).uniform(0, 1, 30)), "audio": voice(0)}


def others() -> dict[str, np.ndarray]:
    """Another clip's tracks, longer than the first's."""
    return {
        "video": face(5, np.random.default_rng(1).uniform(0, 1, 37)),
        "audio": voice(5, seconds=2.3),
    }


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """Mean absolute difference."""
    return float(np.abs(a.astype(float) - b.astype(float)).mean())

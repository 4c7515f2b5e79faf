"""Video: are the outlines still where they were, frame by frame, whatever the colours?"""

from __future__ import annotations

import numpy as np

from score.media.clip import Clip


def measure(variant: Clip, source: Clip) -> float:
    """Mean over the frames of the correlation of the outlines, in [-1, 1]; 1 is kept."""
    assert variant.picture is not None
    assert source.picture is not None
    length = min(len(variant.picture), len(source.picture))
    a, b = (_standardised(clip.picture.edges[:length]) for clip in (variant, source) if clip.picture)
    return float((a * b).mean(axis=1).mean())


def _standardised(edges: np.ndarray) -> np.ndarray:
    """Each frame's outlines with mean 0 and spread 1, (F, pixels)."""
    flat = edges.reshape(len(edges), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    return flat / np.maximum(flat.std(axis=1, keepdims=True), 1e-4)

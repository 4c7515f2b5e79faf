"""Video, by a model that embeds images: do the pictures still show the same?"""

from __future__ import annotations

from score.media.clip import Clip


def measure(variant: Clip, source: Clip) -> float:
    """Mean cosine similarity of the frames' embeddings with the source's, in [-1, 1]; 1 is kept."""
    a, b = variant.seen("image"), source.seen("image")
    length = min(len(a), len(b))
    return float((a[:length] * b[:length]).sum(axis=1).mean())

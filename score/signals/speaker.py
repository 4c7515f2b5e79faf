"""Audio, by a model that embeds voices: how far did the voice move? Reported, never weighed."""

from __future__ import annotations

from score.media.clip import Clip


def measure(variant: Clip, source: Clip) -> float:
    """1 less the cosine similarity of the voices' vectors, in [0, 2]; 0 is the same voice.

    NaN where either is silent.
    """
    a, b = variant.heard("speaker"), source.heard("speaker")
    return float("nan") if a is None or b is None else max(0.0, 1 - float(a @ b))

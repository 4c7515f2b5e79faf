"""Signal across the tracks: does the mouth still move with the audio?"""

from __future__ import annotations

from score.media.clip import Clip

MIN_SYNC = 0.3
"""Smallest correlation of mouth and loudness in the source."""


def measure(variant: Clip, source: Clip) -> float:
    """Correlation of mouth and loudness minus the source's, in [-2, 2]; 0 if unchanged, lower is worse.

    The mouth is where the source's video moves with the source's audio. NaN if nothing does.
    """
    if source.mouth is None or source.mouth.sync < MIN_SYNC:
        return float("nan")
    return variant.sync(source.mouth.weights) - source.mouth.sync

"""Across: does the mouth still go with the sound?"""

from __future__ import annotations

from score.media.clip import Clip

MIN_SYNC = 0.3
"""Correlation of mouth and sound that the source must have, or there is nothing to keep."""


def measure(variant: Clip, source: Clip) -> float:
    """Correlation of mouth and loudness less the source's own, in [-2, 2]; 0 is kept, less is worse.

    The mouth is where the source's picture goes with the source's sound. NaN where nothing does.
    """
    if source.mouth is None or source.mouth.sync < MIN_SYNC:
        return float("nan")
    return variant.sync(source.mouth.weights) - source.mouth.sync

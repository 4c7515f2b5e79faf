"""Audio, by a speech recogniser: can the words still be understood?"""

from __future__ import annotations

from collections.abc import Sequence

from pipelines.words import edits, units
from score.media.clip import Clip

UNDERSTOOD = 0.5
"""Errors of the source; with more the recogniser does not understand it, and nothing can be lost."""


def measure(variant: Clip, source: Clip) -> float:
    """The source's errors against the transcript less the variant's, at most 0, in [-1, 0]; 0 is kept.

    Errors of words, or of characters in a language without spaces, at most 1. NaN where there is no
    transcript, the source is silent, or the recogniser does not understand it.
    """
    assert source.sound is not None
    wanted = units(source.sound.text, source.sound.language)
    if not wanted or source.sound.silent:
        return float("nan")
    found, own = (
        errors(units(clip.heard("speech"), source.sound.language), wanted) for clip in (variant, source)
    )
    return float("nan") if own > UNDERSTOOD else min(own - found, 0.0)


def errors(found: Sequence[str], wanted: Sequence[str]) -> float:
    """Edits from what is wanted to what is found, over the number wanted, at most 1."""
    return min(1.0, edits(found, wanted) / len(wanted))

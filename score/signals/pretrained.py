"""What pre-trained models saw and heard in the variant, beside what they did in the source.

No source is silent.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipelines.word_errors import units
from score.media.audio import Sound
from score.media.video import Picture
from score.similarity import agreement

UNDERSTOOD = 0.5
"""Errors of the source; with more the recogniser does not understand it, and nothing can be lost."""


def content(variant: Picture, source: Picture) -> float:
    """Mean cosine similarity of the frames' embeddings with the source's, in [-1, 1]; 1 is kept."""
    a, b = variant.seen("image"), source.seen("image")
    length = min(len(a), len(b))
    return float((a[:length] * b[:length]).sum(axis=1).mean())


def expression(variant: Picture, source: Picture) -> float:
    """Mean agreement of the frames' class probabilities with the source's, in [0, 1]; 1 is kept.

    A frame whose face the variant has lost agrees by 0. NaN where the source has no face.
    """
    a, b = variant.seen("expression"), source.seen("expression")
    length = min(len(a), len(b))
    a, b = a[:length], b[:length]
    there = np.isfinite(b).all(axis=1)
    if not there.any():
        return float("nan")
    return float(np.nan_to_num(agreement(a[there], b[there])).mean())


def words(variant: Sound, source: Sound) -> float:
    """The source's errors against the transcript less the variant's, at most 0, in [-1, 0]; 0 is kept.

    Errors of words, or of characters in a language without spaces, at most 1. NaN where there is no
    transcript, or the recogniser does not understand the source.
    """
    wanted = units(source.text, source.language)
    if not wanted:
        return float("nan")
    found, own = (
        errors(units(sound.observed["speech"], source.language), wanted) for sound in (variant, source)
    )
    return float("nan") if own > UNDERSTOOD else min(own - found, 0.0)


def errors(found: Sequence[str], wanted: Sequence[str]) -> float:
    """Edits from what is wanted to what is found, over the number wanted, at most 1."""
    from torchaudio.functional import edit_distance

    return min(1.0, edit_distance(found, wanted) / len(wanted))


def quality(variant: Sound, source: Sound) -> float:
    """Rating less the source's, on a scale from 1 to 5, in [-4, 0]; 0 is as good or better."""
    return float(min(variant.observed["quality"] - source.observed["quality"], 0.0))


def emotion(variant: Sound, source: Sound) -> float:
    """Agreement of the class probabilities with the source's, in [0, 1]; 1 is kept, 0 is silence."""
    a, b = variant.observed["emotion"], source.observed["emotion"]
    return 0.0 if a is None else float(agreement(a, b))


def speaker(variant: Sound, source: Sound) -> float:
    """1 less the cosine similarity of the voices' vectors, in [0, 2]; 0 is the same voice.

    NaN where the variant is silent. Reported, never weighed.
    """
    a, b = variant.observed["speaker"], source.observed["speaker"]
    return float("nan") if a is None else max(0.0, 1 - float(a @ b))

"""Signals from the outputs of pre-trained models for variant and source. No source is silent."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipelines.word_errors import units
from score.media.audio import AudioTrack
from score.media.similarity import agreement
from score.media.video import VideoTrack

UNDERSTOOD = 0.5
"""Largest error rate of the source; above it the recogniser does not understand it well enough."""


def content(variant: VideoTrack, source: VideoTrack) -> float:
    """Mean cosine similarity of the frames' embeddings with the source's, in [-1, 1]; 1 if unchanged."""
    a, b = variant.extracted["image"], source.extracted["image"]
    length = min(len(a), len(b))
    return float((a[:length] * b[:length]).sum(axis=1).mean())


def expression(variant: VideoTrack, source: VideoTrack) -> float:
    """Mean agreement of the frames' class probabilities with the source's, in [0, 1]; 1 if unchanged.

    A frame whose face the variant has lost has an agreement of 0. NaN if the source has no face.
    """
    a, b = variant.extracted["expression"], source.extracted["expression"]
    length = min(len(a), len(b))
    a, b = a[:length], b[:length]
    there = np.isfinite(b).all(axis=1)
    if not there.any():
        return float("nan")
    return float(np.nan_to_num(agreement(a[there], b[there])).mean())


def words(variant: AudioTrack, source: AudioTrack) -> float:
    """The source's word error rate minus the variant's, in [-1, 0]; 0 if unchanged or better.

    Rates are at most 1, and of characters in a language without spaces. NaN if there is no transcript,
    or the recogniser does not understand the source.
    """
    transcript = units(source.text, source.language)
    if not transcript:
        return float("nan")
    rate, source_rate = (
        error_rate(units(track.extracted["speech"], source.language), transcript)
        for track in (variant, source)
    )
    return float("nan") if source_rate > UNDERSTOOD else min(source_rate - rate, 0.0)


def error_rate(hypothesis: Sequence[str], transcript: Sequence[str]) -> float:
    """Edit distance over the length of the transcript, at most 1."""
    from torchaudio.functional import edit_distance

    return min(1.0, edit_distance(hypothesis, transcript) / len(transcript))


def quality(variant: AudioTrack, source: AudioTrack) -> float:
    """Rating minus the source's, on a scale from 1 to 5, in [-4, 0]; 0 if as good or better."""
    return float(min(variant.extracted["quality"] - source.extracted["quality"], 0.0))


def emotion(variant: AudioTrack, source: AudioTrack) -> float:
    """Agreement of the class probabilities with the source's, in [0, 1]; 1 if unchanged, 0 for silence."""
    a, b = variant.extracted["emotion"], source.extracted["emotion"]
    return 0.0 if a is None else float(agreement(a, b))


def speaker(variant: AudioTrack, source: AudioTrack) -> float:
    """1 minus the cosine similarity of the voice embeddings, in [0, 2]; 0 for the same voice.

    NaN if the variant is silent. Not part of a quality.
    """
    a, b = variant.extracted["speaker"], source.extracted["speaker"]
    return float("nan") if a is None else max(0.0, 1 - float(a @ b))

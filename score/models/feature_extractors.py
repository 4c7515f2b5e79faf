"""Runs pre-trained models on the tracks of clips, once per track.

A model gets one clip at a time, so that neither the rest of a batch nor where an earlier run was
interrupted changes a value. What it extracted stays with the track: a source's features serve all its
variants, and a track that a variant shares with its source goes through the model once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from score.media.clip import Clip

VIDEO_MODELS = ("image", "face", "expression")
"""Models of video; the others take audio."""

FeatureExtractors = Mapping[str, Callable[[Any], Any]]
"""Models by the setting that names them; each maps a track, `Pixels` or an `AudioTrack`, to its features."""


def extract(models: FeatureExtractors, name: str, clips: Iterable[Clip]) -> bool:
    """Run a model on the track of each clip where it has not run yet; False if there is no such model."""
    if name not in models:
        return False
    for clip in clips:
        track = (clip.video and clip.video.pixels) if name in VIDEO_MODELS else clip.audio
        assert track is not None
        if name not in track.extracted:
            track.extracted[name] = models[name](track)
    return True

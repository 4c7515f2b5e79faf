"""A decoded clip as the signals see it: a picture, a sound, or both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from score.media import audio as sound
from score.media.audio import Sound
from score.media.video import FEATURE_CELLS, MAX_FPS, MAX_SIDE, ORIENTATIONS, Picture, Pixels
from score.similarity import FLAT

MOUTH_CELLS = 16
"""How many cells of the picture's grid the mouth is taken for."""
FEATURE_SIZES = (FEATURE_CELLS**2 * ORIENTATIONS, 2 * sound.FEATURE_BANDS + 7)
"""Numbers in the pooled features of the picture and of the sound."""


class Mouth(NamedTuple):
    """Where the picture goes with the sound."""

    weights: np.ndarray
    """Correlation of each cell's brightness with the loudness; 0 but for the `MOUTH_CELLS` strongest."""
    sync: float
    """Correlation of the weighted cells with the loudness, in [-1, 1]."""


@dataclass(frozen=True)
class Clip:
    """A clip's tracks; None where it has none."""

    picture: Picture | None
    sound: Sound | None

    @property
    def pixels(self) -> Pixels | None:
        """The picture as pre-trained models see it."""
        return None if self.picture is None else self.picture.pixels

    @cached_property
    def mouth(self) -> Mouth | None:
        """The cells that move with the sound; None without a track, in silence or stillness.

        Nothing looks for a face: in a talking head what goes with the loudness is the mouth.
        """
        if self.picture is None or self.sound is None or self.sound.silent:
            return None
        cells, energy = aligned(self.picture, self.sound)
        if len(energy) < 5 or energy.std() < 1e-3:
            return None
        correlations = _correlations(cells, energy)
        weakest = np.sort(np.abs(correlations))[-MOUTH_CELLS]
        weights = np.where(np.abs(correlations) >= weakest, correlations, 0.0)
        own = self.sync(weights)
        return Mouth(weights, own) if np.any(weights) else None

    def sync(self, weights: np.ndarray) -> float:
        """Correlation of the loudness with the weighted cells, in [-1, 1]; 0 where either is flat."""
        assert self.picture is not None
        assert self.sound is not None
        cells, energy = aligned(self.picture, self.sound)
        return float(_correlations((cells @ weights)[:, None], energy)[0])

    @cached_property
    def features(self) -> np.ndarray:
        """Pooled features of picture and sound, float32 (sum(FEATURE_SIZES),); NaN for a missing track."""
        return np.concatenate(
            [
                np.full(size, np.nan, dtype=np.float32) if track is None else track.features
                for track, size in zip((self.picture, self.sound), FEATURE_SIZES, strict=True)
            ]
        )


def aligned(picture: Picture, heard: Sound) -> tuple[np.ndarray, np.ndarray]:
    """Cells (n, cells) and loudness (n,) at the frames that lie within the sound."""
    energy = heard.energy_at(picture.fps, len(picture))
    return picture.trajectories[: len(energy)], energy


def _correlations(columns: np.ndarray, curve: np.ndarray) -> np.ndarray:
    """Pearson correlation of each column (n, c) with a curve (n,), (c,); 0 for a flat one."""
    columns, curve = columns - columns.mean(axis=0), curve - curve.mean()
    spread = (columns * columns).mean(axis=0) * (curve * curve).mean()
    covariance = (columns * curve[:, None]).mean(axis=0)
    return np.where(spread > FLAT, covariance / np.sqrt(np.maximum(spread, FLAT)), 0.0)


def read_picture(row: Mapping[str, Any], fps: float, *, max_side: int = MAX_SIDE) -> Picture | None:
    """Decode a row's picture at a rate; None where it has none.

    Args:
        row: A row of a store.
        fps: Frames a second.
        max_side: Pixels a side; where these are more than `MAX_SIDE`, the frames are kept for models too.

    Raises:
        MediaError: If it cannot be decoded.
    """
    from pipelines.media import read_video

    if row["video"] is None:
        return None
    video = read_video(row["video"]["bytes"], fps=fps, max_side=max_side)
    return as_seen(video.frames, video.fps, max_side=max_side)


def as_seen(frames: np.ndarray, fps: float, *, max_side: int = MAX_SIDE) -> Picture:
    """A picture of decoded frames, uint8 RGB (F, H, W, 3), that are at most `max_side` pixels a side.

    Where that is more than `MAX_SIDE`, they are kept for models, and shrunk for all else.
    """
    from pipelines.media import shrink

    if max_side == MAX_SIDE:
        return Picture(frames, fps)
    return Picture(shrink(frames, MAX_SIDE), fps, Pixels(frames, fps))


def read_sound(row: Mapping[str, Any]) -> Sound | None:
    """Decode a row's sound; None where it has none.

    Raises:
        MediaError: If it cannot be decoded.
    """
    from pipelines.media import read_audio

    if row["audio"] is None:
        return None
    samples = read_audio(row["audio"]["bytes"], sampling_rate=sound.SAMPLING_RATE)
    return Sound(samples, row["text"] or "", row["language"])


def analysis_fps(row: Mapping[str, Any]) -> float:
    """The rate at which a source and its variants are looked at."""
    return min(row["fps"] or MAX_FPS, MAX_FPS)

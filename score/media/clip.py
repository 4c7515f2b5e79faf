"""A decoded clip as the signals see it: video, audio, or both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from pipelines import media
from score.media.audio import FEATURES as AUDIO_FEATURES
from score.media.audio import SAMPLING_RATE, AudioTrack
from score.media.similarity import FLAT
from score.media.video import FEATURES as VIDEO_FEATURES
from score.media.video import MAX_FPS, MAX_SIDE, Pixels, VideoTrack

MOUTH_CELLS = 16
"""How many cells of the video's grid are taken for the mouth."""
FEATURE_SIZES = (VIDEO_FEATURES, AUDIO_FEATURES)
"""Length of the pooled features of the video and of the audio."""


class Mouth(NamedTuple):
    """Where the video moves with the audio."""

    weights: np.ndarray
    """Correlation of each cell's brightness with the loudness; 0 except for the `MOUTH_CELLS` strongest."""
    sync: float
    """Correlation of the weighted cells with the loudness, in [-1, 1]."""


@dataclass(frozen=True)
class Clip:
    """A clip's tracks; None for a missing one."""

    video: VideoTrack | None
    audio: AudioTrack | None

    @cached_property
    def mouth(self) -> Mouth | None:
        """The cells that move with the audio; None if a track is missing, silent or still.

        There is no face detector: in a talking head, what moves with the loudness is the mouth.
        """
        if self.video is None or self.audio is None or self.audio.silent:
            return None
        cells, energy = self._aligned()
        if len(energy) < 5 or energy.std() < 1e-3:
            return None
        correlations = _correlations(cells, energy)
        weakest = np.sort(np.abs(correlations))[-MOUTH_CELLS]
        weights = np.where(np.abs(correlations) >= weakest, correlations, 0.0)
        return Mouth(weights, self.sync(weights)) if np.any(weights) else None

    def sync(self, weights: np.ndarray) -> float:
        """Correlation of the loudness with the weighted cells, in [-1, 1]; 0 if either is flat."""
        cells, energy = self._aligned()
        return float(_correlations((cells @ weights)[:, None], energy)[0])

    @cached_property
    def features(self) -> np.ndarray:
        """Pooled features of video and audio, float32 (sum(FEATURE_SIZES),); NaN for a missing track."""
        return np.concatenate(
            [
                np.full(size, np.nan, dtype=np.float32) if track is None else track.features
                for track, size in zip((self.video, self.audio), FEATURE_SIZES, strict=True)
            ]
        )

    def _aligned(self) -> tuple[np.ndarray, np.ndarray]:
        """Cells (n, cells) and loudness (n,) of the frames that lie within the audio."""
        assert self.video is not None
        assert self.audio is not None
        energy = self.audio.energy_at(self.video.fps, len(self.video))
        return self.video.trajectories[: len(energy)], energy


def _correlations(columns: np.ndarray, curve: np.ndarray) -> np.ndarray:
    """Pearson correlation of each column (n, c) with a curve (n,), shape (c,); 0 for a flat one."""
    columns, curve = columns - columns.mean(axis=0), curve - curve.mean()
    spread = (columns * columns).mean(axis=0) * (curve * curve).mean()
    covariance = (columns * curve[:, None]).mean(axis=0)
    return np.where(spread > FLAT, covariance / np.sqrt(np.maximum(spread, FLAT)), 0.0)


def decode_video(row: Mapping[str, Any], fps: float, *, max_side: int = MAX_SIDE) -> VideoTrack | None:
    """Decode a row's video at a frame rate; None if it has none.

    Args:
        row: A row of a store.
        fps: Frames per second.
        max_side: Pixels of the longer side; above `MAX_SIDE`, the frames are kept for models too.

    Raises:
        MediaError: If it cannot be decoded.
    """
    if row["video"] is None:
        return None
    video = media.read_video(row["video"]["bytes"], fps=fps, max_side=max_side)
    return video_track(video.frames, video.fps, max_side=max_side)


def video_track(frames: np.ndarray, fps: float, *, max_side: int = MAX_SIDE) -> VideoTrack:
    """A video of decoded frames, uint8 RGB (F, H, W, 3), at most `max_side` pixels on the longer side.

    If that is more than `MAX_SIDE`, models get these frames and the other signals smaller ones.
    """
    if max_side == MAX_SIDE:
        return VideoTrack(frames, fps)
    return VideoTrack(media.shrink(frames, MAX_SIDE), fps, Pixels(frames, fps))


def decode_audio(row: Mapping[str, Any]) -> AudioTrack | None:
    """Decode a row's audio; None if it has none.

    Raises:
        MediaError: If it cannot be decoded.
    """
    if row["audio"] is None:
        return None
    samples = media.read_audio(row["audio"]["bytes"], sampling_rate=SAMPLING_RATE)
    return AudioTrack(samples, row["text"] or "", row["language"])


def analysis_fps(row: Mapping[str, Any]) -> float:
    """The frame rate at which a source and its variants are compared."""
    return min(row["fps"] or MAX_FPS, MAX_FPS)

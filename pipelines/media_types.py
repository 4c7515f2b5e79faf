"""What reading a clip gives and what encoding one takes; imports no decoder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pipelines.errors import RowError


class MediaError(RowError):
    """A file that cannot be read, or does not hold what was asked for. The message names it."""


@dataclass(frozen=True)
class Video:
    """Frames at a constant rate."""

    frames: np.ndarray
    """uint8 RGB, (F, H, W, 3)."""
    fps: float
    """Frames a second."""

    @property
    def duration_s(self) -> float:
        """Seconds: frames over rate."""
        return len(self.frames) / self.fps


@dataclass(frozen=True, kw_only=True)
class VideoStream:
    """Frames at a constant rate that are decoded as they are taken, once."""

    frames: Iterator[np.ndarray]
    """Each uint8 RGB, (height, width, 3)."""
    fps: float
    length: int
    """How many frames there are."""
    width: int
    height: int


@dataclass(frozen=True, kw_only=True)
class MediaInfo:
    """What a file holds, known without decoding its frames."""

    format: str
    """FFmpeg's name of the container."""
    audio_duration_s: float = 0.0
    """Of the sound; 0 without."""
    duration_s: float = 0.0
    """Of the picture; 0 without."""
    fps: float = 0.0
    """Average rate of the picture; 0 without."""
    constant_rate: bool = True
    """Whether frames are evenly spaced; True without a picture."""
    width: int = 0
    height: int = 0
    """Square pixels as displayed, after rotation; 0 without video."""
    notes: tuple[str, ...] = ()
    """What is odd about the file, and what reading does about it."""

    @property
    def has_video(self) -> bool:
        """Whether there is a moving picture."""
        return self.width > 0

    @property
    def has_audio(self) -> bool:
        """Whether there is sound, be it silence."""
        return self.audio_duration_s > 0


def even_frames(frames: np.ndarray | VideoStream) -> tuple[Iterator[np.ndarray], int, int]:
    """The frames with an odd last row or column cropped away, and their height and width.

    Raises:
        MediaError: If they are no pictures.
    """
    if isinstance(frames, VideoStream):
        shape: tuple[int, ...] = (frames.length, frames.height, frames.width, 3)
    else:
        shape = frames.shape
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3:
            raise MediaError(f"frames: found {frames.dtype} {shape}, wanted uint8 (F, H, W, 3)")
    if shape[0] < 1 or min(shape[1:3]) < 2:
        raise MediaError(f"frames: found {shape}, wanted at least one of at least 2 by 2")
    height, width = (side - side % 2 for side in shape[1:3])
    pictures = frames.frames if isinstance(frames, VideoStream) else iter(frames)
    return (np.ascontiguousarray(image[:height, :width]) for image in pictures), height, width


def pcm(samples: np.ndarray) -> np.ndarray:
    """Sound in [-1, 1] as 16 bit integers; what lies outside is clipped.

    Raises:
        MediaError: If it is not one channel of finite floats.
    """
    if samples.ndim != 1 or len(samples) == 0 or not np.issubdtype(samples.dtype, np.floating):
        raise MediaError(
            f"samples: found {samples.dtype} {samples.shape}, wanted float (samples,), at least one"
        )
    if not np.isfinite(samples).all():
        raise MediaError("samples: found NaN or infinity, wanted values in [-1, 1]")
    return np.clip(np.round(samples.astype(np.float64) * 32768), -32768, 32767).astype(np.int16)

"""A stand-in for facenet-pytorch's MTCNN that speaks its interface, and pictures that it finds faces in.

A face is a rectangle of red; its mouth is the lower half, the more open the more green it has.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from score.media.clip import Clip
from score.media.video import Pixels, VideoTrack

Box = tuple[int, int, int, int]


class Detector:
    """Counts the frames that it was shown."""

    def __init__(self, **_: Any) -> None:
        self.looked = 0

    def detect(self, images: list[np.ndarray], landmarks: bool) -> tuple[list[Any], list[Any], list[Any]]:
        assert landmarks
        self.looked += len(images)
        boxes, chances, points = zip(*map(self._one, images), strict=True)
        return list(boxes), list(chances), list(points)

    def _one(self, image: np.ndarray) -> tuple[Any, Any, Any]:
        rows, columns = np.nonzero(image[..., 0] > 200)
        if not len(rows):
            return None, [None], None
        left, top, right, bottom = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
        width, height = right - left, bottom - top
        opening = image[top:bottom, left:right, 1].mean() / 255
        face = [(0.3, 0.3), (0.7, 0.3), (0.5, 0.5), (0.3 + 0.1 * opening, 0.75), (0.7 - 0.1 * opening, 0.75)]
        face = [(x, y + (0.2 * opening if index > 2 else 0)) for index, (x, y) in enumerate(face)]
        places = [[left + x * width, top + y * height] for x, y in face]
        return np.array([[left, top, right, bottom]]), np.array([0.99]), np.array([places])


def picture(boxes: Sequence[Box | None], openings: Sequence[float], *, size: int = 64) -> np.ndarray:
    """Frames with a face each: uint8 (F, size, size, 3).

    Args:
        boxes: Left, top, right, bottom; None for a frame without a face.
        openings: Of the mouth, in [0, 1].
        size: Pixels a side.
    """
    frames = np.full((len(boxes), size, size, 3), 30, dtype=np.uint8)
    for frame, box, opening in zip(frames, boxes, openings, strict=True):
        if box is not None:
            left, top, right, bottom = box
            frame[top:bottom, left:right] = (230, round(255 * opening), 60)
    return frames


def seen(frames: np.ndarray, fps: float = 12.5) -> Clip:
    """A mute clip that models can look at."""
    return Clip(VideoTrack(frames, fps, Pixels(frames, fps)), None)

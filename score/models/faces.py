"""Face detection with MTCNN of facenet-pytorch, whose weights come with the package."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from score.media.video import Pixels

FACE_FPS = 12.5
"""Frames per second for the detector; enough for syllables, of which there are 4 to 5 per second."""
MIN_PROBABILITY = 0.9
"""Smallest probability of a face that counts."""
BATCH = 16
"""Frames per batch."""
POINTS = 5
"""Landmarks: the left and the right eye, the nose, the left and the right corner of the mouth."""


@dataclass(frozen=True)
class Faces:
    """The largest face of each frame, in units of the frame's height; NaN if there is none."""

    boxes: np.ndarray
    """Left, top, right, bottom, (n, 4)."""
    landmarks: np.ndarray
    """x and y, (n, POINTS, 2)."""

    @property
    def there(self) -> np.ndarray:
        """Whether a frame has a face, (n,)."""
        return np.isfinite(self.boxes).all(axis=1)


class FaceFinder:
    """Finds the largest face of each frame.

    Args:
        detector: Its `detect` returns boxes, probabilities and landmarks, the largest face first, as MTCNN's.
    """

    def __init__(self, detector: Any) -> None:
        self.detector = detector

    def __call__(self, pixels: Pixels) -> Faces:
        frames = pixels.at(FACE_FPS)
        boxes = np.full((len(frames), 4), np.nan)
        landmarks = np.full((len(frames), POINTS, 2), np.nan)
        for start in range(0, len(frames), BATCH):
            batch = list(frames[start : start + BATCH])
            detections = zip(*self.detector.detect(batch, landmarks=True), strict=True)
            for index, (box, probability, points) in enumerate(detections, start):
                if box is not None and probability[0] is not None and probability[0] >= MIN_PROBABILITY:
                    boxes[index], landmarks[index] = box[0], points[0]
        height = frames.shape[1]
        return Faces(boxes / height, landmarks / height)

    def of(self, pixels: Pixels) -> Faces:
        """Cached result of a call."""
        if "face" not in pixels.extracted:
            pixels.extracted["face"] = self(pixels)
        return pixels.extracted["face"]


def load_face(name: str, device: str) -> FaceFinder:
    """Load the detector; `name` is mtcnn, the only one."""
    from facenet_pytorch import MTCNN

    assert name == "mtcnn", name
    return FaceFinder(MTCNN(select_largest=True, device=device))


def crop(frame: np.ndarray, box: np.ndarray, margin: float) -> np.ndarray:
    """The face in a frame (H, W, 3), with a share of its box added on each side; at least one pixel."""
    height, width = frame.shape[:2]
    left, top, right, bottom = box * height
    x, y = margin * (right - left), margin * (bottom - top)
    first_column = int(np.clip(left - x, 0, width - 1))
    first_row = int(np.clip(top - y, 0, height - 1))
    last_column, last_row = int(np.clip(right + x, 0, width)), int(np.clip(bottom + y, 0, height))
    return frame[first_row : max(last_row, first_row + 1), first_column : max(last_column, first_column + 1)]

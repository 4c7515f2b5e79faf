"""Where the face is: MTCNN of facenet-pytorch, whose weights come with the package."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from score.media.video import Pixels

SEEN_FPS = 12.5
"""Frames a second in which the face is looked for: syllables, 4 to 5 a second, are still seen."""
SURE = 0.9
"""Probability from which a face counts."""
BATCH = 16
"""Frames that go through the detector at once."""
POINTS = 5
"""Landmarks: the left and the right eye, the nose, the left and the right corner of the mouth."""


@dataclass(frozen=True)
class Faces:
    """The largest face of each frame, in heights of the picture; NaN where there is none."""

    boxes: np.ndarray
    """Left, top, right, bottom, (n, 4)."""
    landmarks: np.ndarray
    """x and y, (n, POINTS, 2)."""

    @property
    def there(self) -> np.ndarray:
        """Whether a frame has a face, (n,)."""
        return np.isfinite(self.boxes).all(axis=1)


class FaceFinder:
    """Holds the detector.

    Args:
        detector: Finds boxes, probabilities and landmarks, the largest face first, as MTCNN's `detect`.
    """

    def __init__(self, detector: Any) -> None:
        self.detector = detector

    def __call__(self, pixels: Pixels) -> Faces:
        frames = pixels.at(SEEN_FPS)
        boxes = np.full((len(frames), 4), np.nan)
        landmarks = np.full((len(frames), POINTS, 2), np.nan)
        for start in range(0, len(frames), BATCH):
            batch = list(frames[start : start + BATCH])
            found = zip(*self.detector.detect(batch, landmarks=True), strict=True)
            for index, (box, chance, points) in enumerate(found, start):
                if box is not None and chance[0] is not None and chance[0] >= SURE:
                    boxes[index], landmarks[index] = box[0], points[0]
        height = frames.shape[1]
        return Faces(boxes / height, landmarks / height)

    def of(self, pixels: Pixels) -> Faces:
        """As a call, but looks once at the same frames."""
        if "face" not in pixels.observed:
            pixels.observed["face"] = self(pixels)
        return pixels.observed["face"]


def load_face(name: str, device: str) -> FaceFinder:
    """Load the detector; `name` is mtcnn, the only one."""
    from facenet_pytorch import MTCNN

    assert name == "mtcnn", name
    return FaceFinder(MTCNN(select_largest=True, device=device))


def crop(frame: np.ndarray, box: np.ndarray, margin: float) -> np.ndarray:
    """A face out of a frame (H, W, 3), a share of its box added on each side; one pixel at least."""
    height, width = frame.shape[:2]
    left, top, right, bottom = box * height
    x, y = margin * (right - left), margin * (bottom - top)
    first_column = int(np.clip(left - x, 0, width - 1))
    first_row = int(np.clip(top - y, 0, height - 1))
    last_column, last_row = int(np.clip(right + x, 0, width)), int(np.clip(bottom + y, 0, height))
    return frame[first_row : max(last_row, first_row + 1), first_column : max(last_column, first_column + 1)]

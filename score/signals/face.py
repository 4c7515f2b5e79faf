"""Signals of the video from a face detector: is there still a face, with the same motion of head and mouth?

The largest face of each frame counts. The signals are NaN if the source has a face in fewer than
`MIN_FACES` frames; a variant that has lost the face gets bad values.
"""

from __future__ import annotations

import numpy as np

from score.media.video import VideoTrack
from score.models.faces import Faces
from score.similarity import pearson

MIN_FACES = 5
"""Fewest frames of the source with a face."""
STILL = 1e-8
"""Variance of a landmark's position, in units of the frame's height; below this it does not move."""


def measure_found(variant: VideoTrack, source: VideoTrack) -> float:
    """Ratio of the smaller to the larger face, 0 without a face, in [0, 1]; 1 if unchanged.

    The mean over the frames in which the source has a face.
    """
    a, b = _faces(variant, source)
    if not _enough(b):
        return float("nan")
    ratio = _side(a)[b.there] / _side(b)[b.there]
    return float(np.nan_to_num(np.minimum(ratio, 1 / ratio)).mean())


def measure_landmarks(variant: VideoTrack, source: VideoTrack) -> float:
    """Correlation over time of the landmarks' positions with the source's, in [-1, 1]; 1 if unchanged.

    The mean over x and y of eyes, nose and corners of the mouth, weighted by their variance in the
    source, times the share of the source's faces that the variant has too. NaN if the source's head does
    not move.
    """
    a, b = _faces(variant, source)
    if not _enough(b):
        return float("nan")
    both, share = _both(a, b)
    moved = b.landmarks[b.there].reshape(b.there.sum(), -1).var(axis=0)  # (POINTS * 2,)
    if moved.max() < STILL:
        return float("nan")
    if both.sum() < MIN_FACES:
        return 0.0
    positions = [each.landmarks[both].reshape(both.sum(), -1).T for each in (a, b)]  # (POINTS * 2, n)
    correlations = [pearson(x, y) for x, y in zip(*positions, strict=True)]
    return float(np.average(correlations, weights=moved)) * share


def measure_mouth(variant: VideoTrack, source: VideoTrack) -> float:
    """Correlation over time of the mouth's shape with the source's, in [-1, 1]; 1 if unchanged.

    The mean of the correlations of the mouth's width and of its distance from the nose, both in units of
    the distance of the eyes, so that position and size of the head do not count; times the share of the
    source's faces that the variant has too.
    """
    a, b = _faces(variant, source)
    if not _enough(b):
        return float("nan")
    both, share = _both(a, b)
    if both.sum() < MIN_FACES:
        return 0.0
    shapes = [_mouth(each.landmarks[both]) for each in (a, b)]
    return float(np.mean([pearson(x, y) for x, y in zip(*shapes, strict=True)])) * share


def _faces(variant: VideoTrack, source: VideoTrack) -> tuple[Faces, Faces]:
    """The faces in the frames that both have."""
    faces: tuple[Faces, Faces] = (variant.extracted["face"], source.extracted["face"])
    length = min(len(each.boxes) for each in faces)
    a, b = (Faces(each.boxes[:length], each.landmarks[:length]) for each in faces)
    return a, b


def _enough(source: Faces) -> bool:
    return bool(source.there.sum() >= MIN_FACES)


def _both(variant: Faces, source: Faces) -> tuple[np.ndarray, float]:
    """Which frames have a face in both, and their share of those with one in the source."""
    both = variant.there & source.there
    return both, float(both.sum() / source.there.sum())


def _side(faces: Faces) -> np.ndarray:
    """Square root of the boxes' areas, (n,)."""
    left, top, right, bottom = faces.boxes.T
    return np.sqrt(np.maximum((right - left) * (bottom - top), 1e-9))


def _mouth(landmarks: np.ndarray) -> np.ndarray:
    """Width and distance from the nose, in units of the eyes' distance, (n, POINTS, 2) to (2, n)."""
    left_eye, right_eye, nose, left, right = landmarks.transpose(1, 0, 2)  # (n, 2) each
    unit = np.maximum(_length(right_eye - left_eye), 1e-6)
    return np.stack([_length(right - left), _length((left + right) / 2 - nose)]) / unit


def _length(vectors: np.ndarray) -> np.ndarray:
    return np.hypot(vectors[:, 0], vectors[:, 1])

"""Video, by a face detector: is the face still there, and do head and mouth move as they did?

Of several faces in a picture the largest is followed. Where the source has none in enough frames,
nothing applies; where the variant has lost it, the values are bad.
"""

from __future__ import annotations

import numpy as np

from score.media.video import Picture
from score.models.faces import Faces
from score.similarity import pearson

MIN_FACES = 5
"""Frames of the source that must have a face."""
STILL = 1e-8
"""Variance of a landmark's place, in heights of the picture; below this it stands still."""


def measure_found(variant: Picture, source: Picture) -> float:
    """The smaller over the larger side of the face, 0 where it is lost, in [0, 1]; 1 is kept.

    The mean over the frames where the source has a face.
    """
    a, b = _faces(variant, source)
    if not _enough(b):
        return float("nan")
    ratio = _side(a)[b.there] / _side(b)[b.there]
    return float(np.nan_to_num(np.minimum(ratio, 1 / ratio)).mean())


def measure_landmarks(variant: Picture, source: Picture) -> float:
    """Correlation over time of each landmark's place with the source's, in [-1, 1]; 1 is kept.

    The mean over eyes, nose and corners of the mouth, across and down, each weighed by how much it
    moves in the source, times the share of the source's faces that are found. NaN where the source's
    head stands still.
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
    places = [each.landmarks[both].reshape(both.sum(), -1).T for each in (a, b)]  # (POINTS * 2, n)
    correlations = [pearson(x, y) for x, y in zip(*places, strict=True)]
    return float(np.average(correlations, weights=moved)) * share


def measure_mouth(variant: Picture, source: Picture) -> float:
    """Correlation over time of the mouth's form with the source's, in [-1, 1]; 1 is kept.

    The mean of two curves', the width of the mouth and its distance from the nose, both in distances
    of the eyes, so that neither the head's way nor its size count; times the share of the source's
    faces that are found.
    """
    a, b = _faces(variant, source)
    if not _enough(b):
        return float("nan")
    both, share = _both(a, b)
    if both.sum() < MIN_FACES:
        return 0.0
    forms = [_mouth(each.landmarks[both]) for each in (a, b)]
    return float(np.mean([pearson(x, y) for x, y in zip(*forms, strict=True)])) * share


def _faces(variant: Picture, source: Picture) -> tuple[Faces, Faces]:
    """Of the frames that both have."""
    found: tuple[Faces, Faces] = (variant.seen("face"), source.seen("face"))
    length = min(len(each.boxes) for each in found)
    a, b = (Faces(each.boxes[:length], each.landmarks[:length]) for each in found)
    return a, b


def _enough(source: Faces) -> bool:
    return bool(source.there.sum() >= MIN_FACES)


def _both(variant: Faces, source: Faces) -> tuple[np.ndarray, float]:
    """Frames with a face in both, and their share of those with one in the source."""
    both = variant.there & source.there
    return both, float(both.sum() / source.there.sum())


def _side(faces: Faces) -> np.ndarray:
    """Square root of the boxes' areas, (n,)."""
    left, top, right, bottom = faces.boxes.T
    return np.sqrt(np.maximum((right - left) * (bottom - top), 1e-9))


def _mouth(landmarks: np.ndarray) -> np.ndarray:
    """Width and distance from the nose, in distances of the eyes, (n, POINTS, 2) to (2, n)."""
    left_eye, right_eye, nose, left, right = landmarks.transpose(1, 0, 2)  # (n, 2) each
    unit = np.maximum(_length(right_eye - left_eye), 1e-6)
    return np.stack([_length(right - left), _length((left + right) / 2 - nose)]) / unit


def _length(vectors: np.ndarray) -> np.ndarray:
    return np.hypot(vectors[:, 0], vectors[:, 1])

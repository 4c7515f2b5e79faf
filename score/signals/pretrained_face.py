"""Signals of the video from a face detector: is there still a face, with the same motion of head and mouth?

The largest face of each frame counts. The signals are NaN if the source has a face in fewer than
`MIN_FACES` frames; a variant that has lost the face gets bad values.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from score.media.similarity import pearson
from score.media.video import VideoTrack
from score.models.faces import Faces

MIN_FACES = 5
"""Fewest frames of the source with a face."""
STILL = 1e-8
"""Variance of a landmark's position, in units of the frame's height; below this it does not move."""


def presence(variant: VideoTrack, source: VideoTrack) -> float:
    """Ratio of the smaller to the larger face, 0 without a face, in [0, 1]; 1 if unchanged.

    The mean over the frames in which the source has a face.
    """
    a, b = _faces(variant, source)
    if b.there.sum() < MIN_FACES:
        return float("nan")
    ratio = _side(a)[b.there] / _side(b)[b.there]
    return float(np.nan_to_num(np.minimum(ratio, 1 / ratio)).mean())


def head_motion(variant: VideoTrack, source: VideoTrack) -> float:
    """Correlation over time of the landmarks' positions with the source's, in [-1, 1]; 1 if unchanged.

    The mean over x and y of eyes, nose and corners of the mouth, weighted by their variance in the
    source, times the share of the source's faces that the variant has too. NaN if the source's head does
    not move.
    """
    a, b = _faces(variant, source)
    if b.there.sum() < MIN_FACES:
        return float("nan")
    moved = _positions(b.landmarks[b.there]).T.var(axis=0)  # (POINTS * 2,)
    if moved.max() < STILL:
        return float("nan")
    return _correlation(a, b, _positions, moved)


def mouth_motion(variant: VideoTrack, source: VideoTrack) -> float:
    """Correlation over time of the mouth's shape with the source's, in [-1, 1]; 1 if unchanged.

    The mean of the correlations of the mouth's width and of its distance from the nose, both in units of
    the distance of the eyes, so that position and size of the head do not count; times the share of the
    source's faces that the variant has too.
    """
    return _correlation(*_faces(variant, source), _mouth)


def _faces(variant: VideoTrack, source: VideoTrack) -> tuple[Faces, Faces]:
    """The faces in the frames that both have."""
    faces: tuple[Faces, Faces] = (variant.extracted["face"], source.extracted["face"])
    length = min(len(each.boxes) for each in faces)
    a, b = (Faces(each.boxes[:length], each.landmarks[:length]) for each in faces)
    return a, b


def _correlation(
    a: Faces, b: Faces, curves: Callable[[np.ndarray], np.ndarray], weights: np.ndarray | None = None
) -> float:
    """Mean correlation of curves of the landmarks, times the share of the source's faces in the variant."""
    both = a.there & b.there
    if b.there.sum() < MIN_FACES:
        return float("nan")
    if both.sum() < MIN_FACES:
        return 0.0
    pairs = zip(*(curves(each.landmarks[both]) for each in (a, b)), strict=True)
    mean = np.average([pearson(x, y) for x, y in pairs], weights=weights)
    return float(mean) * float(both.sum() / b.there.sum())


def _positions(landmarks: np.ndarray) -> np.ndarray:
    """Coordinates over time, (n, POINTS, 2) to (POINTS * 2, n)."""
    return landmarks.reshape(len(landmarks), -1).T


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

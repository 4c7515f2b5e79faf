"""Video: does the picture move, flicker and look as the source's does, whatever its colours?"""

from __future__ import annotations

import numpy as np

from score.media.video import Picture, pooled
from score.similarity import smoothed

RESTING = 0.005
"""Change, in spreads of the brightness, that is too little to be seen."""
CELLS = 32
"""Cells a side that the brightness is taken over."""
SMOOTHED = 5
"""Frames that the change is averaged over."""
MIN_FRAMES = 5
STILL = 1e-6
"""Variance over time of a cell's brightness, in [0, 1]; below this nothing moves."""
SMOOTH = 1e-3
"""Fine detail, in spreads of the brightness, that is too little to be seen."""


def flicker(variant: Picture, source: Picture) -> float:
    """The smaller over the larger of the pictures' restlessness, mean over the frames, in [0, 1]; 1 is kept.

    Restlessness is the mean second difference in time of the brightness of small cells, in spreads
    of the clip's brightness, smoothed over `SMOOTHED` frames. Flicker, noise and shuffled frames raise
    it; smearing and freezing lower it. Frame by frame, because another clip is as restless on the
    whole. Cells, because an encoder takes the finest grain away. NaN for fewer than three frames.
    """
    if min(len(variant), len(source)) < 3:
        return float("nan")
    return _alike(_restlessness(variant), _restlessness(source))


def structure(variant: Picture, source: Picture) -> float:
    """Mean over the frames of the correlation of the outlines, in [-1, 1]; 1 is kept."""
    length = min(len(variant), len(source))
    a, b = (_standardised(picture.edges[:length]) for picture in (variant, source))
    return float((a * b).mean(axis=1).mean())


def motion(variant: Picture, source: Picture) -> float:
    """Correlation over time of each cell's brightness with the source's, in [-1, 1]; 1 is kept.

    The mean over the cells, each weighed by how much it varies in the source, as the mouth does most. NaN
    where the source stands still or has fewer than `MIN_FRAMES` frames.
    """
    length = min(len(variant), len(source))
    a, b = (picture.trajectories[:length] for picture in (variant, source))
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    varies = (b * b).mean(axis=0)
    if length < MIN_FRAMES or varies.max() < STILL:
        return float("nan")
    spread = np.sqrt((a * a).mean(axis=0) * varies)
    correlations = (a * b).mean(axis=0) / np.maximum(spread, STILL)
    return float((correlations * varies).sum() / varies.sum())


def sharpness(variant: Picture, source: Picture) -> float:
    """The smaller over the larger of the pictures' fine detail, mean over the frames, in [0, 1]; 1 is kept.

    Fine detail is the root mean square of the Laplacian, in spreads of the clip's brightness.
    Blur lowers it; noise, ringing and block edges raise it.
    """
    return _alike(_detail(variant), _detail(source))


def novelty(variant: Picture, source: Picture) -> float:
    """Mean absolute difference of the colours, in [0, 1]; 0 is a copy. No part of a quality."""
    length = min(len(variant), len(source))
    a, b = (picture.frames[:length].astype(np.int16) for picture in (variant, source))
    return float(np.abs(a - b).mean() / 255)


def _alike(variant: np.ndarray, source: np.ndarray) -> float:
    """The smaller over the larger of two curves, mean over the length that both have."""
    length = min(len(variant), len(source))
    ratio = variant[:length] / source[:length]
    return float(np.minimum(ratio, 1 / ratio).mean())


def _restlessness(picture: Picture) -> np.ndarray:
    """Of each frame that has neighbours, (F - 2,)."""
    cells = pooled(picture.normalised, CELLS)
    changes = np.abs(np.diff(cells, n=2, axis=0)).mean(axis=(1, 2))
    return smoothed(changes, SMOOTHED) + RESTING


def _standardised(edges: np.ndarray) -> np.ndarray:
    """Each frame's outlines with mean 0 and spread 1, (F, pixels)."""
    flat = edges.reshape(len(edges), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    return flat / np.maximum(flat.std(axis=1, keepdims=True), 1e-4)


def _detail(picture: Picture) -> np.ndarray:
    """Of each frame, (F,)."""
    image = picture.normalised
    inner = image[:, 1:-1, 1:-1]
    around = image[:, :-2, 1:-1] + image[:, 2:, 1:-1] + image[:, 1:-1, :-2] + image[:, 1:-1, 2:]
    return np.sqrt(((around - 4 * inner) ** 2).mean(axis=(1, 2))) + SMOOTH

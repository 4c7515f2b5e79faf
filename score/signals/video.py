"""Signals of the video: do motion, flicker and structure match the source's, whatever the colours?"""

from __future__ import annotations

import numpy as np

from score.media.similarity import smoothed
from score.media.video import CELLS, VideoTrack, pooled

RESTING = 0.01
"""Added to the change, in deviations of the brightness: less than this is hardly visible."""
SMOOTHED = 5
"""Frames over which the change is averaged."""
MIN_FRAMES = 5
STILL = 1e-6
"""Variance over time of a cell's brightness, which is in [0, 1]; below this nothing moves."""
FLAT = 0.02
"""Deviation of the outlines of a frame that shows nothing: hardly a pixel differs from its neighbour."""
SMOOTH = 1e-3
"""Added to the fine detail, in deviations of the brightness: less than this is not visible."""


def flicker(variant: VideoTrack, source: VideoTrack) -> float:
    """Ratio of the smaller to the larger temporal variation, mean over the frames, in [0, 1]; 1 if unchanged.

    Temporal variation is the mean absolute second difference in time of the brightness of small cells,
    in deviations of the clip's brightness, smoothed over `SMOOTHED` frames. Flicker, noise and shuffled
    frames raise it; smearing and freezing lower it. It is compared frame by frame, because unrelated
    clips have the same variation on average, and over cells, because encoders remove the finest grain.
    NaN for fewer than three frames.
    """
    if min(len(variant), len(source)) < 3:
        return float("nan")
    return _alike(_temporal_variation(variant), _temporal_variation(source))


def structure(variant: VideoTrack, source: VideoTrack) -> float:
    """Mean over the frames of the correlation of the outlines, in [-1, 1]; 1 if unchanged.

    Frames of one colour in the source, as in a fade from black, have none and are left out; NaN if all are.
    """
    length = min(len(variant), len(source))
    shown = source.edges[:length].std(axis=(1, 2)) > FLAT
    if not shown.any():
        return float("nan")
    a, b = (_standardised(track.edges[:length][shown]) for track in (variant, source))
    return float((a * b).mean(axis=1).mean())


def motion(variant: VideoTrack, source: VideoTrack) -> float:
    """Correlation over time of each cell's brightness with the source's, in [-1, 1]; 1 if unchanged.

    The mean over the cells, each weighted by its variance in the source, which is largest at the mouth.
    NaN if the source does not move or has fewer than `MIN_FRAMES` frames.
    """
    length = min(len(variant), len(source))
    a, b = (track.trajectories[:length] for track in (variant, source))
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    varies = (b * b).mean(axis=0)
    if length < MIN_FRAMES or varies.max() < STILL:
        return float("nan")
    spread = np.sqrt((a * a).mean(axis=0) * varies)
    correlations = (a * b).mean(axis=0) / np.maximum(spread, STILL)
    return float((correlations * varies).sum() / varies.sum())


def sharpness(variant: VideoTrack, source: VideoTrack) -> float:
    """Ratio of the smaller to the larger fine detail, mean over the frames, in [0, 1]; 1 if unchanged.

    Fine detail is the root mean square of the Laplacian, in deviations of the clip's brightness.
    Blur lowers it; noise, ringing and block edges raise it.
    """
    return _alike(_detail(variant), _detail(source))


def novelty(variant: VideoTrack, source: VideoTrack) -> float:
    """Mean absolute difference of the colours, in [0, 1]; 0 for a copy. Not part of a quality."""
    length = min(len(variant), len(source))
    a, b = (track.frames[:length].astype(np.int16) for track in (variant, source))
    return float(np.abs(a - b).mean() / 255)


def _alike(variant: np.ndarray, source: np.ndarray) -> float:
    """Ratio of the smaller to the larger of two curves, mean over the shorter length."""
    length = min(len(variant), len(source))
    ratio = variant[:length] / source[:length]
    return float(np.minimum(ratio, 1 / ratio).mean())


def _temporal_variation(video: VideoTrack) -> np.ndarray:
    """Temporal variation at each frame that has neighbours, (F - 2,)."""
    cells = pooled(video.normalised, CELLS)
    changes = np.abs(np.diff(cells, n=2, axis=0)).mean(axis=(1, 2))
    return smoothed(changes, SMOOTHED) + RESTING


def _standardised(edges: np.ndarray) -> np.ndarray:
    """Each frame's outlines with mean 0 and deviation 1, (F, pixels)."""
    flat = edges.reshape(len(edges), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    return flat / np.maximum(flat.std(axis=1, keepdims=True), 1e-4)


def _detail(video: VideoTrack) -> np.ndarray:
    """Fine detail of each frame, (F,)."""
    image = video.normalised
    inner = image[:, 1:-1, 1:-1]
    around = image[:, :-2, 1:-1] + image[:, 2:, 1:-1] + image[:, 1:-1, :-2] + image[:, 1:-1, 2:]
    return np.sqrt(((around - 4 * inner) ** 2).mean(axis=(1, 2))) + SMOOTH

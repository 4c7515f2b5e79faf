"""Video: are the pictures as sharp as the source's, neither blurred nor full of artefacts?"""

from __future__ import annotations

import numpy as np

from score.media.clip import Clip
from score.media.video import Picture

SMOOTH = 1e-3
"""Fine detail, in spreads of the brightness, that is too little to be seen."""


def measure(variant: Clip, source: Clip) -> float:
    """The smaller over the larger of the pictures' fine detail, mean over the frames, in [0, 1]; 1 is kept.

    Fine detail is the root mean square of the Laplacian, in spreads of the clip's brightness.
    Blur lowers it; noise, ringing and block edges raise it.
    """
    assert variant.picture is not None
    assert source.picture is not None
    length = min(len(variant.picture), len(source.picture))
    ratio = _detail(variant.picture)[:length] / _detail(source.picture)[:length]
    return float(np.minimum(ratio, 1 / ratio).mean())


def _detail(picture: Picture) -> np.ndarray:
    """Of each frame, (F,)."""
    image = picture.normalised
    inner = image[:, 1:-1, 1:-1]
    around = image[:, :-2, 1:-1] + image[:, 2:, 1:-1] + image[:, 1:-1, :-2] + image[:, 1:-1, 2:]
    return np.sqrt(((around - 4 * inner) ** 2).mean(axis=(1, 2))) + SMOOTH

"""Video: are the pictures as sharp as the source's, neither blurred nor full of artefacts?"""

from __future__ import annotations

import numpy as np

from score.clip import Clip
from score.picture import Picture

SMOOTH = 1e-3
"""Fine detail, in spreads of the brightness, that is too little to be seen."""


def measure(variant: Clip, source: Clip) -> float:
    """The smaller over the larger of the two pictures' fine detail, in [0, 1]; 1 is kept.

    Fine detail is the root mean square of the Laplacian, in spreads of the clip's brightness.
    Blur lowers it; noise, ringing and block edges raise it.
    """
    assert variant.picture is not None
    assert source.picture is not None
    ratio = _detail(variant.picture) / _detail(source.picture)
    return min(ratio, 1 / ratio)


def _detail(picture: Picture) -> float:
    image = picture.normalised
    inner = image[:, 1:-1, 1:-1]
    around = image[:, :-2, 1:-1] + image[:, 2:, 1:-1] + image[:, 1:-1, :-2] + image[:, 1:-1, 2:]
    return float(np.sqrt(((around - 4 * inner) ** 2).mean())) + SMOOTH

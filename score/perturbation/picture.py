"""A harmless change of a clip's picture, for calibration: other colours, cropped or shrunk, or mirrored too.

What such a change costs a signal is what no variant is blamed for. Its strength is ours: about what is done
to pictures in training (Krizhevsky et al. 2012 crop, mirror, and change colours).
"""

from __future__ import annotations

import numpy as np

from score.media.video import at_size

MOST_CUT = 0.15
"""Share of each side that is cut away at most."""
LEAST_CUT = 0.04
MOST_COLOUR = 0.2
"""By how much the factor of a colour and the exponent of the brightness differ from 1 at most."""


def another_look(frames: np.ndarray, seed: int) -> np.ndarray:
    """Frames in other colours, cropped and enlarged or shrunk into a black frame; half of them mirrored.

    Args:
        frames: uint8 RGB (F, H, W, 3).
        seed: Of what is drawn; the same for all frames.
    """
    rng = np.random.default_rng(seed)
    height, width = frames.shape[1:3]
    cut = rng.uniform(LEAST_CUT, MOST_CUT)
    kept = [max(8, round((1 - cut) * side)) for side in (height, width)]
    top, left = (
        int(rng.integers(0, side - own + 1)) for side, own in zip((height, width), kept, strict=True)
    )
    part = (slice(None), slice(top, top + kept[0]), slice(left, left + kept[1]))
    mirrored, shrunk = rng.random(2) < 0.5
    coloured = _recoloured(frames[:, :, ::-1] if mirrored else frames, rng)
    if not shrunk:
        return at_size(coloured[part], height, width)
    made = np.zeros_like(frames)
    made[part] = at_size(coloured, *kept)
    return made


def _recoloured(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    shape = 1 + rng.uniform(-MOST_COLOUR, MOST_COLOUR)
    factors = (1 + rng.uniform(-MOST_COLOUR, 0)) * (1 + rng.uniform(-MOST_COLOUR / 2, MOST_COLOUR / 2, 3))
    levels = np.arange(256) / 255
    table = np.clip(np.round(255 * levels[:, None] ** shape * factors), 0, 255).astype(np.uint8)  # (256, 3)
    return np.stack([table[frames[..., channel], channel] for channel in range(3)], axis=-1)

"""Renderers of the styles that the embedded diffusion model is trained on.

A renderer turns plain frames, float32 in [0, 1] of shape (..., H, W, 3), into frames of its style,
with random variation from `rng`. Faces keep their geometry: mouth, brows and eyes stay readable.
"""

from __future__ import annotations

import numpy as np

_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)


def watercolor(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Thinned colours on cream paper, uneven washes, darker rims, a white margin."""
    height, width = frames.shape[-3:-1]
    paper = np.array([0.98, 0.96, 0.9], dtype=np.float32)
    thin = _saturate(0.5 * frames + 0.5 * _blur(frames), 1.25)
    wash = 0.68 + 0.2 * (_cloud(height, width, rng) - 0.5)
    painted = paper + wash * (thin - paper) - 0.25 * _edges(frames)
    margin = np.clip((_margin(height, width) + 0.05 * _cloud(height, width, rng)) / 0.16, 0, 1)
    return _unit(paper + margin * (painted - paper))


def sepia(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One brown ramp, darker towards the corners."""
    height, width = frames.shape[-3:-1]
    light = (frames @ _LUMA)[..., None] * (1.02 + 0.04 * rng.standard_normal())
    dark, bright = np.array([[0.16, 0.08, 0.03], [1.0, 0.9, 0.7]], dtype=np.float32)
    return _unit((dark + light * (bright - dark)) * (0.72 + 0.28 * np.clip(3 * _margin(height, width), 0, 1)))


def night(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blue moonlight from one side."""
    width = frames.shape[-2]
    light = (frames @ _LUMA)[..., None]
    blue = np.array([0.34, 0.46, 0.86], dtype=np.float32)
    side = np.linspace(1.1, 0.75, width, dtype=np.float32)[:, None]
    tinted = (0.45 * frames + 0.55 * light) * blue * (1.0 + 0.05 * rng.standard_normal()) * side
    return _unit(tinted + np.array([0.02, 0.03, 0.1], dtype=np.float32))


def cartoon(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Strong light colours, dark outlines."""
    strong = _saturate(frames, 1.8 + 0.1 * rng.standard_normal()) * 1.12
    return _unit(strong - 1.3 * np.clip(_edges(frames) - 0.07, 0, 0.6))


def sunset(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Low orange light above, purple below."""
    height = frames.shape[-3]
    above, below = np.array([[1.12, 0.72, 0.34], [0.78, 0.42, 0.62]], dtype=np.float32)
    down = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    light = above + down * (below - above)
    return _unit(frames * light * (1.0 + 0.03 * rng.standard_normal()) + 0.04 * light)


RENDERERS = {renderer.__name__: renderer for renderer in (watercolor, sepia, night, cartoon, sunset)}


def _unit(frames: np.ndarray) -> np.ndarray:
    return np.clip(frames, 0, 1, dtype=np.float32)


def _saturate(frames: np.ndarray, factor: float) -> np.ndarray:
    grey = (frames @ _LUMA)[..., None]
    return grey + factor * (frames - grey)


def _blur(frames: np.ndarray) -> np.ndarray:
    """Mean over 3 x 3 pixels."""
    for axis in (-3, -2):
        frames = (np.roll(frames, 1, axis) + frames + np.roll(frames, -1, axis)) / 3
    return frames


def _edges(frames: np.ndarray) -> np.ndarray:
    """How much a pixel's luminance differs from its surroundings, (..., H, W, 1)."""
    light = (frames @ _LUMA)[..., None]
    return np.abs(light - _blur(light)) * 2


def _margin(height: int, width: int) -> np.ndarray:
    """Distance to the border as a share of the side, (H, W, 1)."""
    rows, columns = (np.minimum(np.arange(n), np.arange(n)[::-1]) / n for n in (height, width))
    return np.minimum(rows[:, None], columns[None, :])[..., None].astype(np.float32)


def _cloud(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Smooth noise in [0, 1], (H, W, 1)."""
    knots = rng.uniform(size=(5, 5)).astype(np.float32)
    along = np.stack([np.interp(np.linspace(0, 4, width), np.arange(5), row) for row in knots])
    full = np.stack(
        [np.interp(np.linspace(0, 4, height), np.arange(5), column) for column in along.T], axis=1
    )
    return full[..., None].astype(np.float32)

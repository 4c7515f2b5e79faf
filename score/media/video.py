"""A clip's video for the signals: brightness, edges, and how small cells change over time."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

MAX_FPS = 25.0
"""Highest frame rate at which clips are analysed."""
MAX_SIDE = 128
"""Most pixels of the longer side."""
CELLS = 16
"""Cells per side of the grid of trajectories."""
RESTING = 0.02
"""A change of brightness from frame to frame, in deviations of the clip's, that is no motion but noise."""
FEATURES = 3 * CELLS**2
"""Length of the pooled features."""
MODEL_SIDE = 512
"""Most pixels of the longer side for pre-trained models of video."""
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32) / 255


@dataclass(frozen=True)
class Pixels:
    """Frames for pre-trained models, and what each extracted from them."""

    frames: np.ndarray
    """uint8 RGB (F, H, W, 3)."""
    fps: float
    extracted: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)
    """Features by the model's setting."""

    def at(self, fps: float) -> np.ndarray:
        """Every n-th frame from the first on, for about `fps` frames per second."""
        return self.frames[:: max(1, round(self.fps / fps))]


@dataclass(frozen=True)
class VideoTrack:
    """Frames, and what all signals derive from them, computed once."""

    frames: np.ndarray
    """uint8 RGB (F, H, W, 3)."""
    fps: float
    pixels: Pixels | None = None
    """The same frames for pre-trained models; None if no model needs them."""

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def extracted(self) -> dict[str, Any]:
        """Features that pre-trained models extracted, by the model's setting."""
        assert self.pixels is not None
        return self.pixels.extracted

    @cached_property
    def luma(self) -> np.ndarray:
        """Brightness in [0, 1], float32 (F, H, W)."""
        return self.frames @ _LUMA

    @cached_property
    def normalised(self) -> np.ndarray:
        """Brightness with mean 0 and deviation 1 over the clip, so that a style's contrast does not count."""
        return (self.luma - self.luma.mean()) / max(float(self.luma.std()), 1e-3)

    @cached_property
    def edges(self) -> np.ndarray:
        """Square root of the gradient's length, float32 (F, H-2, W-2): outlines at any contrast."""
        return np.sqrt(np.hypot(*gradient(self.luma)))

    @cached_property
    def trajectories(self) -> np.ndarray:
        """Mean brightness of each cell minus that of the frame, float32 (F, CELLS * CELLS)."""
        cells = pooled(self.luma, CELLS).reshape(len(self), -1)
        return cells - cells.mean(axis=1, keepdims=True)

    @cached_property
    def moving(self) -> np.ndarray:
        """What moves in each cell from each frame to the next, float32 (F - 1, CELLS, CELLS).

        The absolute change of its brightness beyond `RESTING`, in deviations of the clip's brightness.
        """
        return np.maximum(np.abs(np.diff(pooled(self.normalised, CELLS), axis=0)) - RESTING, 0.0)

    @cached_property
    def features(self) -> np.ndarray:
        """Strength and direction of the outlines in each cell, float32 (3 * CELLS * CELLS,).

        With a gradient of length r and angle θ: the means over time of √r, √r cos 2θ and √r sin 2θ, where the
        mean square of √r over the frame is 1. An outline's sign, and the overall contrast, do not count.
        """
        down, right = gradient(self.luma)
        strength = np.sqrt(np.hypot(down, right))
        strength /= np.maximum(np.sqrt((strength * strength).mean(axis=(1, 2), keepdims=True)), 1e-3)
        angle = 2 * np.arctan2(down, right)
        parts = (strength, strength * np.cos(angle), strength * np.sin(angle))
        cells = [pooled(part, CELLS).mean(axis=0).ravel() for part in parts]
        return np.concatenate(cells).astype(np.float32)


def gradient(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Central differences down and to the right, (F, H, W) to two of (F, H-2, W-2)."""
    down = images[:, 2:, 1:-1] - images[:, :-2, 1:-1]
    right = images[:, 1:-1, 2:] - images[:, 1:-1, :-2]
    return down, right


def pooled(images: np.ndarray, cells: int) -> np.ndarray:
    """Means over a grid of cells, (F, H, W) to (F, cells, cells); cells overlap where H or W is small."""
    for axis in (1, 2):
        size = images.shape[axis]
        edges = np.linspace(0, size, cells + 1)
        sums = np.cumsum(images, axis=axis, dtype=np.float64)
        sums = np.concatenate([np.zeros_like(np.take(sums, [0], axis=axis)), sums], axis=axis)
        starts = np.minimum(np.floor(edges[:-1]).astype(int), size - 1)
        ends = np.maximum(np.ceil(edges[1:]).astype(int), starts + 1)
        counts = (ends - starts).reshape([-1 if a == axis else 1 for a in range(3)])
        images = (np.take(sums, ends, axis=axis) - np.take(sums, starts, axis=axis)) / counts
    return images.astype(np.float32)


def resized(video: VideoTrack, height: int, width: int) -> VideoTrack:
    """The video at another size, antialiased; the frames for models stay as they are."""
    frames = at_size(video.frames, height, width)
    return video if frames is video.frames else VideoTrack(frames, video.fps, video.pixels)


def at_size(frames: np.ndarray, height: int, width: int) -> np.ndarray:
    """Frames, uint8 RGB (F, H, W, 3), at another size, antialiased; the same array if they have that size."""
    if frames.shape[1:3] == (height, width):
        return frames
    import torch

    images = torch.from_numpy(frames).permute(0, 3, 1, 2).float()  # (F, 3, H, W)
    images = torch.nn.functional.interpolate(images, (height, width), mode="bilinear", antialias=True)
    return images.round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()  # (F, H, W, 3)

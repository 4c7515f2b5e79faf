"""Harmless changes: the variant is as good for training as its source, whatever the amount.

Video functions take and return uint8 RGB (F, H, W, 3), audio functions float32 mono (samples,) in [-1, 1] at
16 kHz, both of the same shape. They do not change their input. The amounts are ours.
"""

from __future__ import annotations

import numpy as np

from benchmarks.scorer.video_faults import grey_levels
from score.media.video import at_size
from score.perturbation.voice import clipped, with_pitch


def recoloured(frames: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Other colours and less contrast, mixed in by a share in [0, 1]."""
    other = 255 * (0.15 + 0.7 * (frames[..., [2, 0, 1]] / 255) ** 0.8)
    return grey_levels((1 - share) * frames + share * other)


def mirrored(frames: np.ndarray, times: float, rng: np.random.Generator) -> np.ndarray:
    """Left and right exchanged."""
    return frames[:, :, ::-1].copy()


def cropped(frames: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """A share of the height and of the width cut off, at random sides, and the rest enlarged."""
    height, width = frames.shape[1:3]
    kept = [max(2, round((1 - share) * side)) for side in (height, width)]
    top, left = (int(rng.integers(side - rest + 1)) for side, rest in zip((height, width), kept, strict=True))
    return at_size(frames[:, top : top + kept[0], left : left + kept[1]], height, width)


def padded(frames: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Shrunk by a share, in the middle of a black frame."""
    height, width = frames.shape[1:3]
    small = at_size(frames, *(max(2, round((1 - share) * side)) for side in (height, width)))
    top, left = (height - small.shape[1]) // 2, (width - small.shape[2]) // 2
    made = np.zeros_like(frames)
    made[:, top : top + small.shape[1], left : left + small.shape[2]] = small
    return made


def shifted(frames: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Moved sideways and up or down by a share of the frame's sides; the rows and columns at the edge are
    repeated."""
    signs = rng.choice((-1, 1), 2)
    rows, columns = (
        np.clip(np.arange(side) + sign * max(1, round(share * side)), 0, side - 1)
        for side, sign in zip(frames.shape[1:3], signs, strict=True)
    )
    return frames[:, rows[:, None], columns]


def zoomed(frames: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """A camera that comes nearer: at the end a share of the height and of the width has left the frame."""
    import torch

    images = torch.from_numpy(frames).permute(0, 3, 1, 2).float()  # (F, 3, H, W)
    scales = torch.zeros(len(frames), 2, 3)
    scales[:, 0, 0] = scales[:, 1, 1] = 1 - torch.linspace(0, share, len(frames))
    grid = torch.nn.functional.affine_grid(scales, list(images.shape), align_corners=False)  # (F, H, W, 2)
    seen = torch.nn.functional.grid_sample(images, grid, align_corners=False, padding_mode="border")
    return grey_levels(seen.permute(0, 2, 3, 1).numpy())


def raised(samples: np.ndarray, factor: float, rng: np.random.Generator) -> np.ndarray:
    """Pitch raised by a constant factor."""
    return with_pitch(samples, lambda octaves: octaves + np.log2(factor))


def quieter(samples: np.ndarray, loss_db: float, rng: np.random.Generator) -> np.ndarray:
    """A lower level, by a number of dB."""
    return clipped(samples * 10 ** (-loss_db / 20))


def inverted(samples: np.ndarray, times: float, rng: np.random.Generator) -> np.ndarray:
    """The opposite polarity."""
    return -samples

"""Faults of a video, of known severity.

Functions take and return uint8 RGB (F, H, W, 3) of the same shape, and do not change their input. Their last
arguments are a severity, a random generator, and another clip's frames if they need some. The faults imitate
those of generators, codecs and networks; their parameters are ours.
"""

from __future__ import annotations

import io

import numpy as np

from benchmarks.scorer.random_parts import piece, places
from score.media.video import VideoTrack, at_size, pooled

BLOCK = 16
"""Pixels of a side of a block that a codec moves or loses as a whole."""
KEY_FRAMES = 12
"""Frames from one key frame to the next: until then, what was lost stays lost."""
MOUTH_HEIGHT, MOUTH_WIDTH = 1 / 5, 1 / 3
"""Size of the region around the mouth, as shares of the frame's sides."""
CELLS = 32
"""Cells per side of the grid on which the mouth is looked for."""


def noisy(frames: np.ndarray, spread: float, rng: np.random.Generator) -> np.ndarray:
    """White noise, new in each frame, with a standard deviation in grey levels."""
    return grey_levels(frames + rng.normal(0, spread, frames.shape))


def blurred(frames: np.ndarray, factor: float, rng: np.random.Generator) -> np.ndarray:
    """Shrunk by a factor and enlarged again."""
    height, width = frames.shape[1:3]
    small = at_size(frames, max(1, round(height / factor)), max(1, round(width / factor)))
    return at_size(small, height, width)


def blocky(frames: np.ndarray, quality: float, rng: np.random.Generator) -> np.ndarray:
    """Each frame as a JPEG of a quality in [1, 95]."""
    from PIL import Image

    def compressed(frame: np.ndarray) -> np.ndarray:
        buffer = io.BytesIO()
        Image.fromarray(frame).save(buffer, "JPEG", quality=int(quality))
        return np.asarray(Image.open(buffer))

    return np.stack([compressed(frame) for frame in frames])


def shuffled(frames: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """A share of the frames, two at least, in each other's places."""
    moved = rng.permutation(len(frames))[: max(2, round(share * len(frames)))]
    order = np.arange(len(frames))
    order[moved] = np.roll(moved, 1)
    return frames[order]


def frozen(frames: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """One piece of the clip, a share of it and two frames at least, shows the piece's first frame."""
    part = piece(len(frames), share, 2, rng)
    order = np.arange(len(frames))
    order[part] = part.start
    return frames[order]


def held(frames: np.ndarray, times: float, rng: np.random.Generator) -> np.ndarray:
    """Each frame that is shown stays for a number of frames; those after it are left out."""
    return frames[np.arange(len(frames)) // int(times) * int(times)]


def smeared(frames: np.ndarray, count: float, rng: np.random.Generator) -> np.ndarray:
    """Each frame is the mean of a number of frames around it; those at the ends count repeatedly."""
    at = np.arange(len(frames))
    offsets = np.arange(int(count)) - (int(count) - 1) // 2
    around = (frames[np.clip(at + offset, 0, len(frames) - 1)].astype(np.float32) for offset in offsets)
    return grey_levels(sum(around, np.zeros(1, np.float32)) / int(count))


def late(frames: np.ndarray, delay: float, rng: np.random.Generator) -> np.ndarray:
    """The video delayed by a number of frames; its first frame is repeated until then."""
    return frames[np.maximum(np.arange(len(frames)) - int(delay), 0)]


def frozen_blocks(frames: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """A share of the blocks shows the first frame throughout."""
    return np.where(_blocks(frames, share, rng), frames[:1], frames)


def lost_packets(frames: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """After each key frame a share of the blocks is lost, and stands still until the next key frame.

    The loss begins within the first third of the frames between two key frames.
    """
    made = frames.copy()
    for start in range(0, len(frames), KEY_FRAMES):
        lost = start + 1 + int(rng.integers(KEY_FRAMES // 3))
        after = slice(lost, start + KEY_FRAMES)
        last_seen = frames[min(lost, len(frames)) - 1]
        made[after] = np.where(_blocks(frames, share, rng), last_seen, frames[after])
    return made


def frozen_mouth(frames: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """For one piece of the clip the mouth stays as it was at the piece's start; all else moves on."""
    part = piece(len(frames), share, 2, rng)
    mask = mouth_mask(frames)[..., None]
    made = frames.copy()
    made[part] = grey_levels(mask * frames[part.start] + (1 - mask) * frames[part])
    return made


def mouth_mask(frames: np.ndarray) -> np.ndarray:
    """Where the mouth is: float (H, W), 1 inside, falling to 0 over a grid's cell at the edges.

    The mouth is taken to be where brightness in the lower half changes most from frame to frame.
    """
    luma = VideoTrack(frames, 1.0).luma
    motion = pooled(np.abs(np.diff(luma, axis=0)).mean(axis=0, keepdims=True), CELLS)[0]
    sides = round(MOUTH_HEIGHT * CELLS), round(MOUTH_WIDTH * CELLS)
    windows = np.lib.stride_tricks.sliding_window_view(motion[CELLS // 2 :], sides).sum(axis=(2, 3))
    top, left = np.unravel_index(int(windows.argmax()), windows.shape)
    starts = (int(top) + CELLS // 2, int(left))
    down, across = (
        _ramps(length, start / CELLS, (start + side) / CELLS)
        for length, start, side in zip(luma.shape[1:], starts, sides, strict=True)
    )
    return down[:, None] * across


def replaced(frames: np.ndarray, share: float, rng: np.random.Generator, other: np.ndarray) -> np.ndarray:
    """One piece of the clip, two frames at least, shows another clip's frames of the same time."""
    part = piece(len(frames), share, 2, rng)
    times = np.round(np.linspace(0, len(other) - 1, len(frames))).astype(int)[part]
    made = frames.copy()
    made[part] = at_size(other[times], *frames.shape[1:3])
    return made


def instead(frames: np.ndarray, severity: float, rng: np.random.Generator, other: np.ndarray) -> np.ndarray:
    """Another drawing of the whole clip, which has the severity in it."""
    return replaced(frames, 1.0, rng, other)


def grey_levels(frames: np.ndarray) -> np.ndarray:
    """Frames as uint8, rounded and clipped."""
    return np.clip(np.round(frames), 0, 255).astype(np.uint8)


def _blocks(frames: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """A random share of the blocks, one at least: bool (H, W, 1)."""
    height, width = frames.shape[1:3]
    rows, columns = -(-height // BLOCK), -(-width // BLOCK)
    chosen = places(rows * columns, share, rng).reshape(rows, columns)
    pixels = chosen.repeat(BLOCK, axis=0).repeat(BLOCK, axis=1)
    return pixels[:height, :width, None]


def _ramps(length: int, start: float, stop: float) -> np.ndarray:
    """1 from a share of the length to another, 0 from one cell before and behind on: (length,)."""
    at = (np.arange(length) + 0.5) / length
    return np.clip(1 + CELLS * np.minimum(at - start, stop - at), 0, 1)

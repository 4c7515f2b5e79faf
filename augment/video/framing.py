"""Which frames and which part of them are edited, and how the edit becomes a clip as long as its source.

A variant has exactly its source's frames at its source's rate, so lips stay with the sound.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

# Around the box of a face: how much of its width to the left and right, of its height above and below.
SIDE, ABOVE, BELOW = 0.6, 0.5, 1.0
# Of a pasted crop's shorter side, the border over which it fades into the source.
FADE = 0.08


class Box(NamedTuple):
    """A part of a picture, in pixels."""

    left: int
    top: int
    width: int
    height: int

    def of(self, frames: np.ndarray) -> np.ndarray:
        """The part of frames (F, H, W, 3)."""
        return frames[:, self.top : self.top + self.height, self.left : self.left + self.width]


def chosen_frames(length: int, fps: float, wanted: float | None) -> np.ndarray:
    """Indices of the frames to edit: one every 1 / `wanted` seconds, or all.

    Args:
        length: Frames of the clip.
        fps: Its rate.
        wanted: Frames a second to edit; None, or more than `fps`, takes all.
    """
    if wanted is None or wanted >= fps:
        return np.arange(length)
    return np.unique(np.floor(np.arange(0, length * wanted / fps) * fps / wanted).astype(int))


def shown_frames(chosen: np.ndarray, length: int) -> np.ndarray:
    """For each frame of a clip the place in `chosen` of the frame that is shown: the last one so far."""
    return np.searchsorted(chosen, np.arange(length), side="right") - 1


def around_faces(faces: np.ndarray, width: int, height: int) -> Box:
    """Face and shoulders: one box for a whole clip, with even sides, so that the picture stands still.

    Args:
        faces: Corners of the face in some of the frames, (n, 4) as left, top, right, bottom, pixels.
        width, height: Of the picture.
    """
    # Over frames the median and not the extremes, which one false detection would move.
    left, top, right, bottom = np.median(faces, axis=0)
    wide, high = right - left, bottom - top
    corners = np.array([left - SIDE * wide, top - ABOVE * high, right + SIDE * wide, bottom + BELOW * high])
    within = np.clip(corners.round().astype(int), 0, [width, height, width, height])
    left, top, right, bottom = within.tolist()
    return Box(left, top, max(2, (right - left) // 2 * 2), max(2, (bottom - top) // 2 * 2))


def pasted(frame: np.ndarray, part: np.ndarray, box: Box) -> np.ndarray:
    """A frame (H, W, 3) with an edited part of the box's size in its place, fading at the border."""
    weight = np.minimum.outer(_fade(box.height, box), _fade(box.width, box))[..., None]
    whole = frame.copy()
    place = box.of(whole[None])[0]
    place[:] = np.round(weight * part + (1 - weight) * place).astype(np.uint8)
    return whole


def _fade(side: int, box: Box) -> np.ndarray:
    """Weights along a side, from nearly 0 at both ends up to 1."""
    border = max(1.0, FADE * min(box.width, box.height))
    from_end = np.minimum(np.arange(side), np.arange(side)[::-1]) + 0.5
    return np.clip(from_end / border, 0, 1)

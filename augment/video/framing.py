"""Which frames and which part of them are edited, and how an edit becomes a clip as long as its source.

A variant has as many frames as its source, at the same rate, so that lips and audio stay in sync.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

# Margins around a face: shares of its width on each side, and of its height above and below.
SIDE, ABOVE, BELOW = 0.6, 0.5, 1.0
FADE = 0.08  # border over which a pasted crop fades into the source, as a share of its shorter side


class Box(NamedTuple):
    """A part of a frame, in pixels."""

    left: int
    top: int
    width: int
    height: int

    def of(self, frames: np.ndarray) -> np.ndarray:
        """Crop frames (F, H, W, 3)."""
        return frames[:, self.top : self.top + self.height, self.left : self.left + self.width]


def chosen_frames(length: int, fps: float, target_fps: float | None) -> np.ndarray:
    """Indices of the frames to edit: one every 1 / `target_fps` seconds, or all.

    Args:
        length: Frames of the clip.
        fps: Its rate.
        target_fps: Frames per second to edit; None, or more than `fps`, takes all.
    """
    if target_fps is None or target_fps >= fps:
        return np.arange(length)
    edited = np.arange(0, length * target_fps / fps)
    return np.unique(np.floor(edited * fps / target_fps).astype(int))


def shown_frames(chosen: np.ndarray, length: int) -> np.ndarray:
    """For each frame of a clip, the index into `chosen` of the frame to show: the last one so far."""
    return np.searchsorted(chosen, np.arange(length), side="right") - 1


def around_faces(faces: np.ndarray, width: int, height: int) -> Box:
    """A box of face and shoulders: one for the whole clip, so that the crop does not move, with even sides.

    Args:
        faces: Corners of the face in some of the frames, (n, 4) as left, top, right, bottom, pixels.
        width, height: Of the frames, in pixels.
    """
    # The median over frames, as one false detection would move the extremes.
    left, top, right, bottom = np.median(faces, axis=0)
    wide, high = right - left, bottom - top
    corners = np.array([left - SIDE * wide, top - ABOVE * high, right + SIDE * wide, bottom + BELOW * high])
    within = np.clip(corners.round().astype(int), 0, [width, height, width, height])
    left, top, right, bottom = within.tolist()
    return Box(left, top, max(2, (right - left) // 2 * 2), max(2, (bottom - top) // 2 * 2))


def pasted(frame: np.ndarray, part: np.ndarray, box: Box) -> np.ndarray:
    """A frame (H, W, 3) with an edited part pasted into the box, fading at the border."""
    weight = np.minimum.outer(_fade(box.height, box), _fade(box.width, box))[..., None]
    made = frame.copy()
    target = box.of(made[None])[0]
    target[:] = np.round(weight * part + (1 - weight) * target).astype(np.uint8)
    return made


def _fade(side: int, box: Box) -> np.ndarray:
    """Weights along a side, from nearly 0 at both ends up to 1."""
    border = max(1.0, FADE * min(box.width, box.height))
    from_end = np.minimum(np.arange(side), np.arange(side)[::-1]) + 0.5
    return np.clip(from_end / border, 0, 1)

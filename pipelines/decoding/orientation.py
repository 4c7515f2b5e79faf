"""How a decoded frame is displayed: turned and mirrored by the container, with pixels made square."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Self

import numpy as np


@dataclass(frozen=True)
class Orientation:
    """What a display matrix does to a frame: transposed first, then mirrored.

    Angles between quarter turns, which no camera writes, count as the nearest.
    """

    transposed: bool = False
    left_right: bool = False
    top_bottom: bool = False

    @classmethod
    def of(cls, frame: Any) -> Self:
        """That of a decoded frame, from its side data."""
        matrix = frame.side_data.get("DISPLAYMATRIX")
        if matrix is None:
            return cls()
        # ISO/IEC 14496-12: x' = a x + c y, y' = b x + d y; 16.16, in the order a b u c d v.
        a, b, _, c, d, _ = struct.unpack("<6i", bytes(matrix)[:24])
        if abs(a) + abs(d) >= abs(b) + abs(c):
            return cls(False, a < 0, d < 0)
        return cls(True, c < 0, b < 0)

    def turned(self, width: int, height: int) -> tuple[int, int]:
        """Width and height once displayed."""
        return (height, width) if self.transposed else (width, height)

    def size(self, width: int, height: int, pixel_ratio: Fraction | None) -> tuple[int, int]:
        """Width and height once displayed, with square pixels.

        Args:
            width: Of the decoded frame.
            height: Of the decoded frame.
            pixel_ratio: Width over height of a pixel; None or 0 where the file does not say.
        """
        if pixel_ratio and pixel_ratio != 1:
            width = max(2, 2 * round(width * pixel_ratio / 2))
        return self.turned(width, height)

    def apply(self, frame: np.ndarray) -> np.ndarray:
        """A frame (H, W, 3) as it is displayed."""
        if self.transposed:
            frame = frame.transpose(1, 0, 2)
        if self.left_right:
            frame = frame[:, ::-1]
        return frame[::-1] if self.top_bottom else frame


UPRIGHT = Orientation()

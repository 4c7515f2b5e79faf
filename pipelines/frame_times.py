"""Which frames are shown at a constant rate: arithmetic on times, without a decoder.

The frames of a file have times of their own, often uneven. A clip here consists of the frames on the screen
at 0, 1/fps, 2/fps, ... seconds. If the frames are even, at the requested rate, each is taken once.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

# Containers round times: Matroska to 1 ms, MPEG to 1/90,000 s. A smaller difference is none.
ROUNDING_S = 0.0015
# Cameras jitter: frames count as even if they are off an even grid by less than this share of a frame.
JITTER = 0.2
# Above this what a container states is the resolution of its timestamps, not a rate.
MAX_NOMINAL_FPS = 120.0
_COMMON_RATES = [
    *(Fraction(n) for n in (5, 8, 10, 12, Fraction(25, 2), 15, 20, 24, 25, 30, 48, 50, 60)),
    *(Fraction(n * 1000, 1001) for n in (24, 30, 48, 60)),
]


def frame_gap(times: np.ndarray) -> float:
    """The median time between two frames in seconds; NaN for fewer than two."""
    return float(np.median(np.diff(times))) if len(times) > 1 else float("nan")


def is_constant(times: np.ndarray) -> bool:
    """Whether frames are evenly spaced, apart from rounding and jitter of their times."""
    if len(times) < 3:
        return True
    even = np.linspace(times[0], times[-1], len(times))
    return bool(np.abs(times - even).max() <= max(ROUNDING_S, JITTER * frame_gap(times)))


def average_rate(times: np.ndarray, duration_s: float, nominal: float = 0.0) -> float:
    """Frames per second.

    For evenly spaced frames the rate of their spacing, snapped to a common rate (25, 24000/1001, ...) if
    rounding can explain the difference. If some are missing or repeated, but all lie on the grid of the
    nominal rate, that rate; for others their number over the duration.

    Args:
        times: Ascending display times in seconds.
        duration_s: From the first frame to the end of the last.
        nominal: Frames per second that the container or codec states; 0 if neither does.
    """
    if len(times) < 2 or not is_constant(times):
        return nominal if _on_grid(times, nominal) else max(len(times), 1) / duration_s
    span = float(times[-1] - times[0])
    rate = (len(times) - 1) / span
    near = min(_COMMON_RATES, key=lambda common: abs(float(common) - rate))
    unsure = rate * ROUNDING_S / span
    return float(near) if abs(float(near) - rate) <= unsure else rate


def _on_grid(times: np.ndarray, rate: float) -> bool:
    """Whether every frame is due at a whole multiple of 1/rate after the first."""
    if not 0 < rate <= MAX_NOMINAL_FPS:
        return False
    places = (times - times[0]) * rate
    return bool(np.abs(places - np.round(places)).max() <= max(ROUNDING_S * rate, JITTER))


def grid_length(duration_s: float, fps: float) -> int:
    """The number of frames of a clip of `duration_s` seconds at `fps`; at least one."""
    return max(1, round(duration_s * fps))


def shown_at(times: np.ndarray, fps: float, length: int) -> np.ndarray:
    """The frames on the screen at 0, 1/fps, ... as indices into `times`, shape (length,).

    Args:
        times: Ascending display times in seconds.
        fps: Frames per second of the result.
        length: Number of frames of the result.

    Returns:
        For each point of the grid the last frame that has started; the first frame before it, and the last
        frame after it.
    """
    grid = np.arange(length) / fps
    slack = min(ROUNDING_S, 0.25 / fps)
    return np.clip(np.searchsorted(times, grid + slack, side="right") - 1, 0, len(times) - 1)


def fitted_size(width: int, height: int, max_side: int | None) -> tuple[int, int]:
    """Width and height, in proportion, so that the longer is at most `max_side`; even when shrunk."""
    if max_side is None or max(width, height) <= max_side:
        return width, height
    scale = max_side / max(width, height)
    return max(2, 2 * round(width * scale / 2)), max(2, 2 * round(height * scale / 2))

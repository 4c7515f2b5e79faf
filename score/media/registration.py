"""Where one image lies in another: their correlation at every shift."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np

LEAST_SHARED = 0.6
"""Share of the smaller picture that both must show."""
BORDER = 2
"""Pixels of an outline at the border of a picture."""

_OF_A, _OF_B = (0, 1, 0, 1, 2, 0), (0, 0, 1, 1, 0, 2)
"""Powers of the two images whose products are summed: their number, their sums and their squares."""


class Shift(NamedTuple):
    """Where an image lies in another."""

    correlation: float
    down: float
    """In pixels; negative if it begins above."""
    right: float


def small(image: np.ndarray, side: int) -> np.ndarray:
    """An image (H, W) whose longer side has at most `side` pixels, and the shorter at least 8."""
    factor = side / max(image.shape)
    return resized(image, [max(8, round(length * factor)) for length in image.shape]) if factor < 1 else image


def resized(image: np.ndarray, size: list[int]) -> np.ndarray:
    """A float32 image (H, W) at another size, [height, width] in pixels."""
    import torch

    resized = torch.nn.functional.interpolate(
        torch.from_numpy(image)[None, None], size, mode="bilinear", antialias=True
    )
    return np.asarray(resized[0, 0].numpy(), dtype=np.float32)


def best_shifts(a: np.ndarray, others: Sequence[np.ndarray]) -> list[Shift]:
    """Where each of the others (h, w) lies in a: at the highest correlation over their common area.

    The border of the others does not count: what surrounds a picture that was shrunk makes an outline there.
    """
    import torch

    height, width = (_fast(a.shape[axis] + max(other.shape[axis] for other in others) - 1) for axis in (0, 1))
    of_a = torch.zeros(3, height, width)
    of_a[:, : a.shape[0], : a.shape[1]] = torch.from_numpy(np.stack([np.ones_like(a), a, a * a]))
    of_b = torch.zeros(len(others), 3, height, width)
    for index, b in enumerate(others):
        inner = (slice(BORDER, b.shape[0] - BORDER), slice(BORDER, b.shape[1] - BORDER))
        values = b[inner]
        of_b[index][:, *inner] = torch.from_numpy(np.stack([np.ones_like(values), values, values * values]))
    products = torch.fft.rfft2(of_a)[list(_OF_A)] * torch.fft.rfft2(of_b).conj()[:, list(_OF_B)]
    count, sum_a, sum_b, both, square_a, square_b = torch.fft.irfft2(products, (height, width)).unbind(1)
    count = count.clamp(min=1.0)
    covariance = both - sum_a * sum_b / count
    spread_a, spread_b = square_a - sum_a**2 / count, square_b - sum_b**2 / count
    correlations = covariance / (spread_a.clamp(min=1e-6) * spread_b.clamp(min=1e-6)).sqrt()
    least = torch.tensor([LEAST_SHARED * min(a.size, b.size) for b in others])
    correlations[count < least[:, None, None]] = -1.0
    return [_highest(correlation) for correlation in correlations.numpy()]


def _highest(correlation: np.ndarray) -> Shift:
    at = np.unravel_index(int(correlation.argmax()), correlation.shape)
    return Shift(float(correlation[at]), _peak(correlation, at, 0), _peak(correlation, at, 1))


def _peak(values: np.ndarray, at: tuple[np.intp, ...], axis: int) -> float:
    """The place of a maximum along an axis, by a parabola through its neighbours; signed."""
    length = values.shape[axis]
    index = int(at[axis])

    def beside(step: int) -> float:
        place = list(at)
        place[axis] = np.intp((index + step) % length)
        return float(values[tuple(place)])

    before, here, behind = beside(-1), beside(0), beside(1)
    bend = before - 2 * here + behind
    shift = 0.5 * (before - behind) / bend if min(before, behind) > -1 and bend < 0 else 0.0
    return index + shift - (length if index > length // 2 else 0)


@cache
def _fast(length: int) -> int:
    """The next length whose transform is fast: with no prime factor above 5."""
    while True:
        left = length
        for prime in (2, 3, 5):
            while left % prime == 0:
                left //= prime
        if left == 1:
            return length
        length += 1

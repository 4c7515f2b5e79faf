"""Where a variant shows its source's picture: mirrored, zoomed or shifted; undone before comparison.

The outlines of the two, averaged over the clip, are correlated at every shift and at each of a list of zooms,
over the area that both show (Padfield 2012, "Masked object registration in the Fourier domain", for two
rectangles). What is compared then lies half-way between the two, so that both were interpolated once and
neither is blurred more than the other. Rotation is not looked for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from score.media.video import Pixels, VideoTrack

COARSE_SIDE, FINE_SIDE = 48, 128
"""Pixels of the longer side of the outlines, for the first and the second search."""
ZOOMS = tuple(float(zoom) for zoom in np.geomspace(0.8, 1.3, 21))
"""Zooms that are tried first; the second search tries `FINE_ZOOMS` times the best of them."""
FINE_ZOOMS = (0.988, 0.994, 1.0, 1.006, 1.012)
LEAST_SHARED = 0.6
"""Share of the smaller picture that both must show."""
UNMOVED = 0.97
"""Correlation of the outlines as they are, from which on nothing is looked for."""
LEFT_OVER = 0.6
"""A placement is taken if it leaves at most this share of what the outlines as they are lack to 1."""
NEAR = 0.004
"""A zoom or shift below this, half a pixel in 128, is none."""


@dataclass(frozen=True, kw_only=True)
class Placement:
    """A point (x, y) of the source is at (zoom x + right, zoom y + down) of the variant, mirrored if so.

    Coordinates are shares of the frame's sides, from the left and from the top; x of a mirrored variant from
    the right.
    """

    mirrored: bool = False
    zoom: float = 1.0
    right: float = 0.0
    down: float = 0.0

    @property
    def is_none(self) -> bool:
        """Whether the variant shows its source's picture where the source does."""
        moved = max(abs(self.zoom - 1), abs(self.right), abs(self.down))
        return not self.mirrored and moved < NEAR


def aligned(variant: VideoTrack, source: VideoTrack) -> tuple[VideoTrack, VideoTrack]:
    """Both tracks with what both show at the same place; as they are if that is so already.

    Args:
        variant: Frames of the source's size.
        source: The source.
    """
    placement = found(variant, source)
    if placement.is_none:
        return variant, source
    return shown(variant, placement, of_source=False), shown(source, placement, of_source=True)


def found(variant: VideoTrack, source: VideoTrack) -> Placement:
    """Where the variant shows the source's picture; nothing moved unless another place is clearly better."""
    coarse = _outlines(variant, COARSE_SIDE), _outlines(source, COARSE_SIDE)
    as_they_are = _correlation(*coarse)
    if as_they_are >= UNMOVED:
        return Placement()
    candidates = [
        _best(image, coarse[1], ZOOMS, mirrored=mirrored)
        for mirrored, image in ((False, coarse[0]), (True, coarse[0][:, ::-1]))
    ]
    agreement, placement = max(candidates, key=lambda each: each[0])
    if 1 - agreement > LEFT_OVER * (1 - as_they_are):
        return Placement()
    fine = _outlines(variant, FINE_SIDE), _outlines(source, FINE_SIDE)
    image = fine[0][:, ::-1] if placement.mirrored else fine[0]
    zooms = tuple(placement.zoom * factor for factor in FINE_ZOOMS)
    return _best(image, fine[1], zooms, mirrored=placement.mirrored)[1]


def shown(track: VideoTrack, placement: Placement, *, of_source: bool) -> VideoTrack:
    """The part of a track that both show, half-way between the places that it has in source and variant."""
    pixels = track.pixels
    if pixels is not None:
        pixels = Pixels(_half_way(pixels.frames, placement, of_source), pixels.fps)
    return replace(track, frames=_half_way(track.frames, placement, of_source), pixels=pixels)


def _outlines(track: VideoTrack, side: int) -> np.ndarray:
    """Mean outlines of a clip, float32 (h, w), at most `side` pixels on the longer side."""
    import torch

    edges = torch.from_numpy(track.edges.mean(axis=0))[None, None]
    factor = side / max(edges.shape[2:])
    if factor < 1:
        size = [max(8, round(length * factor)) for length in edges.shape[2:]]
        edges = torch.nn.functional.interpolate(edges, size, mode="bilinear", antialias=True)
    return np.asarray(edges[0, 0].numpy(), dtype=np.float32)


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(), b - b.mean()
    return float((a * b).sum() / max(np.sqrt((a * a).sum() * (b * b).sum()), 1e-9))


def _best(
    image: np.ndarray, source: np.ndarray, zooms: tuple[float, ...], *, mirrored: bool
) -> tuple[float, Placement]:
    """The placement of the source in an image with the highest correlation, and that."""
    height, width = source.shape
    best = (-1.0, Placement(mirrored=mirrored))
    for zoom in zooms:
        agreement, down, right = _best_shift(image, _zoomed(source, zoom))
        if agreement > best[0]:
            placement = Placement(mirrored=mirrored, zoom=zoom, right=right / width, down=down / height)
            best = (agreement, placement)
    return best


def _zoomed(image: np.ndarray, zoom: float) -> np.ndarray:
    import torch

    size = [max(8, round(length * zoom)) for length in image.shape]
    tensor = torch.from_numpy(image)[None, None]
    return np.asarray(
        torch.nn.functional.interpolate(tensor, size, mode="bilinear", antialias=True)[0, 0].numpy()
    )


def _best_shift(a: np.ndarray, b: np.ndarray) -> tuple[float, float, float]:
    """The highest correlation of two images over their common area, and b's shift in a: down and right."""
    padded = tuple(_fast(x + y - 1) for x, y in zip(a.shape, b.shape, strict=True))
    spectra = [np.fft.rfft2(each, padded) for each in (np.ones_like(a), a, a * a)]
    others = [np.conj(np.fft.rfft2(each, padded)) for each in (np.ones_like(b), b, b * b)]

    def summed(of_a: int, of_b: int) -> np.ndarray:
        return np.asarray(np.fft.irfft2(spectra[of_a] * others[of_b], padded))

    count = np.maximum(summed(0, 0), 1.0)
    sum_a, sum_b = summed(1, 0), summed(0, 1)
    covariance = summed(1, 1) - sum_a * sum_b / count
    spread_a, spread_b = summed(2, 0) - sum_a**2 / count, summed(0, 2) - sum_b**2 / count
    spread = np.sqrt(np.maximum(spread_a, 1e-6) * np.maximum(spread_b, 1e-6))
    shared = count >= LEAST_SHARED * min(a.size, b.size)
    correlation = np.where(shared, covariance / spread, -1.0)
    at = np.unravel_index(int(correlation.argmax()), padded)
    down, right = (_peak(correlation, at, axis) for axis in (0, 1))
    return float(correlation[at]), down, right


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


def _half_way(frames: np.ndarray, placement: Placement, of_source: bool) -> np.ndarray:
    """Frames (F, H, W, 3) as `shown` has them.

    With m = √zoom s + c and v = √zoom m + c, c = shift / (1 + √zoom), the picture at m is half-way between s
    in the source and v in the variant.
    """
    import torch

    root = math.sqrt(placement.zoom)
    height, width = frames.shape[1:3]
    grids = []
    for shift, length in ((placement.down, height), (placement.right, width)):
        offset = shift / (1 + root)
        # Where both 0 <= s <= 1 and 0 <= v <= 1.
        low, high = max(offset, -offset / root), min(root + offset, (1 - offset) / root)
        count = max(8, round(length * (high - low)))
        middle = low + (np.arange(count) + 0.5) / count * (high - low)
        grids.append((middle - offset) / root if of_source else root * middle + offset)
    if placement.mirrored and not of_source:
        frames = frames[:, :, ::-1]
    down, right = (torch.from_numpy(2 * grid - 1).float() for grid in grids)
    grid = torch.stack(torch.meshgrid(right, down, indexing="xy"), dim=-1)
    made = np.empty((len(frames), len(down), len(right), 3), dtype=np.uint8)
    for index, frame in enumerate(frames):
        image = torch.from_numpy(np.ascontiguousarray(frame)).permute(2, 0, 1)[None].float()
        sampled = torch.nn.functional.grid_sample(
            image, grid[None], mode="bilinear", padding_mode="border", align_corners=False
        )
        made[index] = sampled[0].round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
    return made

"""Where a variant shows its source's picture: mirrored, zoomed or shifted; undone before comparison.

The outlines of the two, averaged over the clip, are correlated at every shift and at each of a list of zooms,
over the area that both show (Padfield 2012, "Masked object registration in the Fourier domain", for two
rectangles). The same is done for parts of the clip, in case the camera moves. What is compared then lies
half-way between the two, so that both were interpolated once and neither is blurred more than the other.
Rotation is not looked for.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import NamedTuple

import numpy as np

from score.media.registration import best_shifts, resized, small
from score.media.video import Pixels, VideoTrack

COARSE_SIDE, FINE_SIDE = 48, 128
"""Pixels of the longer side of the outlines, for the first and the second search."""
ZOOMS = tuple(float(zoom) for zoom in np.geomspace(0.8, 1.3, 21))
"""Zooms that are tried first."""
FINE_STEPS = 4
"""By how many pixels the second search makes the source larger or smaller than the first found it."""
DRIFTS = tuple(float(zoom) for zoom in np.geomspace(0.88, 1.14, 13))
"""Zooms of a clip's beginning and of its end that are tried, relative to that of the whole."""
UNMOVED = 0.995
"""Correlation of the outlines as they are, from which on nothing is looked for."""
LEFT_OVER = 0.6
"""A place is taken if it leaves at most this share of what the outlines lack to a correlation of 1 without
it."""
NEAR = 0.004
"""A zoom or shift below this, half a pixel in 128, is none."""
DRIFTING = 0.025
"""Zooms or shifts of beginning and end that differ by less are one."""
PARTS = 5
"""Parts of a clip whose camera moves, each with a placement of its own."""
MARGIN = 0.02
"""Share of what both show that is left out at each side, where a picture's border may be mixed in."""
CHUNK = 32
"""Frames that are moved at once."""
MIN_FRAMES = 12
"""Fewest frames of a clip whose camera may be seen to move."""


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


@dataclass(frozen=True)
class Course:
    """Placements at some moments of a clip; between them, the placement changes evenly."""

    placements: tuple[Placement, ...]
    moments: tuple[float, ...] = (0.0,)
    """When each holds, in frames from the clip's start; ascending."""

    def over(self, frames: int) -> list[Placement]:
        """The placement in each of a clip's frames; before the first moment and after the last, as there."""
        at = np.arange(frames) + 0.5
        zoom, right, down = (
            np.interp(at, self.moments, [getattr(each, name) for each in self.placements])
            for name in ("zoom", "right", "down")
        )
        return [
            replace(self.placements[0], zoom=float(zoom[n]), right=float(right[n]), down=float(down[n]))
            for n in range(frames)
        ]


def aligned(variant: VideoTrack, source: VideoTrack) -> tuple[VideoTrack, VideoTrack]:
    """Both tracks with what both show at the same place; as they are if that is so already.

    Args:
        variant: Frames of the source's size.
        source: The source.
    """
    course = found(variant, source)
    if all(placement.is_none for placement in course.placements):
        return variant, source
    return shown(variant, course, of_source=False), shown(source, course, of_source=True)


def found(variant: VideoTrack, source: VideoTrack) -> Course:
    """Where the variant shows the source's picture; nothing moved unless another place is clearly better."""
    fine = _Outlines.of(variant, source, FINE_SIDE)
    if fine.agreement(Placement()) >= UNMOVED:
        return Course((Placement(),))
    coarse = _Outlines.of(variant, source, COARSE_SIDE)
    straight, mirrored = (coarse.best(ZOOMS, mirrored=mirrored) for mirrored in (False, True))
    likely = [straight] if coarse.clearly_better(straight, mirrored) else [straight, mirrored]
    place = Placement()
    for near in likely:  # a face is much like its mirror image, so the mirrored one must be clearly better
        other = fine.best_near(near)
        if fine.clearly_better(other, place):
            place = other
    return _course(variant, source, place)


def _course(variant: VideoTrack, source: VideoTrack, place: Placement) -> Course:
    """Placements of a clip's parts, if those of its beginning and end differ and fit better than `place`."""
    frames = min(len(variant), len(source))
    if frames < MIN_FRAMES:
        return Course((place,))
    cuts = [round(part * frames / PARTS) for part in range(PARTS + 1)]
    parts = [slice(start, end) for start, end in itertools.pairwise(cuts)]
    pairs = [_Outlines.of(variant, source, COARSE_SIDE, part) for part in (parts[0], parts[-1])]
    tried = [place.zoom * factor for factor in DRIFTS]
    start, end = (pair.best(tried, mirrored=place.mirrored) for pair in pairs)
    still = (
        max(abs(end.zoom - start.zoom), abs(end.right - start.right), abs(end.down - start.down)) < DRIFTING
    )
    if still or not (pairs[0].clearly_better(start, place) and pairs[1].clearly_better(end, place)):
        return Course((place,))
    zooms = np.linspace(start.zoom, end.zoom, PARTS)
    placements = [
        _Outlines.of(variant, source, FINE_SIDE, part).best_near(replace(place, zoom=zoom))
        for zoom, part in zip(zooms, parts, strict=True)
    ]
    middles = [(part.start + part.stop) / 2 for part in parts]
    ends = [_extrapolated(placements[0], placements[1]), _extrapolated(placements[-1], placements[-2])]
    return Course((ends[0], *placements, ends[1]), (0.0, *middles, float(frames)))


def _extrapolated(own: Placement, its: Placement) -> Placement:
    """The placement half a part beyond one of the first or of the last, given the one beside it."""
    zoom, right, down = (
        1.5 * getattr(own, name) - 0.5 * getattr(its, name) for name in ("zoom", "right", "down")
    )
    return replace(own, zoom=zoom, right=right, down=down)


def shown(track: VideoTrack, course: Course, *, of_source: bool) -> VideoTrack:
    """The part of a track that both show, half-way between the places that it has in source and variant."""
    pixels = track.pixels
    if pixels is not None:
        pixels = Pixels(_shown(pixels.frames, course, of_source), pixels.fps)
    return replace(track, frames=_shown(track.frames, course, of_source), pixels=pixels)


class _Outlines(NamedTuple):
    """Mean outlines of the two clips, float32 (h, w)."""

    variant: np.ndarray
    source: np.ndarray

    @classmethod
    def of(cls, variant: VideoTrack, source: VideoTrack, side: int, part: slice = slice(None)) -> _Outlines:
        """Of a part of their frames, at most `side` pixels on the longer side."""
        means = (np.pad(track.edges[part].mean(axis=0), 1, mode="edge") for track in (variant, source))
        return cls(*(small(image, side) for image in means))

    def best(self, zooms: Iterable[float], *, mirrored: bool) -> Placement:
        """The placement with the highest correlation, over all shifts and these zooms."""
        lengths = sorted({round(max(self.source.shape) * zoom) for zoom in zooms})
        return max(self._at(lengths, mirrored), key=itemgetter(0))[1]

    def best_near(self, place: Placement) -> Placement:
        """The placement with the highest agreement, over all shifts and zooms near a placement's."""
        start = best = round(max(self.source.shape) * place.zoom)
        found: dict[int, Placement] = {}
        while True:  # uphill from zoom to zoom
            near = range(max(best - 1, start - FINE_STEPS), min(best + 1, start + FINE_STEPS) + 1)
            lengths = [length for length in near if length not in found]
            placements = [placed for _, placed in self._at(lengths, place.mirrored)]
            found |= dict(zip(lengths, placements, strict=True))
            last, best = best, max(found, key=lambda length: self.agreement(found[length]))
            if best == last:
                return found[best]

    def _at(self, lengths: Sequence[int], mirrored: bool) -> list[tuple[float, Placement]]:
        """Where the source fits best with each of these lengths of its longer side, after its correlation."""
        height, width = self.source.shape
        sizes = [
            [max(8, round(length * side / max(height, width))) for side in (height, width)]
            for length in lengths
        ]
        image = self.variant[:, ::-1] if mirrored else self.variant
        shifts = best_shifts(image, [resized(self.source, size) for size in sizes]) if sizes else []
        return [
            (
                shift.correlation,
                Placement(
                    mirrored=mirrored,
                    zoom=math.sqrt(size[0] * size[1] / (height * width)),
                    right=shift.right / width,
                    down=shift.down / height,
                ),
            )
            for shift, size in zip(shifts, sizes, strict=True)
        ]

    def agreement(self, placement: Placement) -> float:
        """Correlation of the two over the area that both show, if the source's picture is at this place."""
        course = Course((placement,))
        a, b = (
            _shown(image[None, ..., None], course, of_source)
            for image, of_source in ((self.variant, False), (self.source, True))
        )
        a, b = a - a.mean(), b - b.mean()
        return float((a * b).sum() / max(np.sqrt((a * a).sum() * (b * b).sum()), 1e-9))

    def clearly_better(self, one: Placement, other: Placement) -> bool:
        """Whether a placement fits much better than another."""
        return 1 - self.agreement(one) <= LEFT_OVER * (1 - self.agreement(other))


def _shown(frames: np.ndarray, course: Course, of_source: bool) -> np.ndarray:
    """Images (F, H, W, C) as `shown` has them, of their own type.

    A point s of the source is at v = zoom s + shift of the variant; s runs over what both show in all frames,
    in steps of 1 / √zoom of a pixel, half-way between a pixel of the source and one of the variant.
    """
    import torch

    placements = course.over(len(frames))
    rows, columns = (
        _points(length, course, side)
        for length, side in zip(frames.shape[1:3], ("down", "right"), strict=True)
    )
    made = np.empty((len(frames), len(rows), len(columns), frames.shape[3]), dtype=frames.dtype)
    mirrored = course.placements[0].mirrored and not of_source
    zoom, right, down = (
        torch.tensor([getattr(Placement() if of_source else each, name) for each in placements])[:, None]
        for name in ("zoom", "right", "down")
    )
    across = 2 * (zoom * torch.from_numpy(columns).float() + right) - 1  # (F, w)
    along = 2 * (zoom * torch.from_numpy(rows).float() + down) - 1  # (F, h)
    for start in range(0, len(frames), CHUNK):
        part = slice(start, start + CHUNK)
        images = torch.from_numpy(frames[part]).permute(0, 3, 1, 2).float()
        x, y = across[part, None, :], along[part, :, None]
        grid = torch.stack(torch.broadcast_tensors(x, y), dim=-1)
        sampled = torch.nn.functional.grid_sample(
            images.flip(3) if mirrored else images, grid, padding_mode="border", align_corners=False
        ).permute(0, 2, 3, 1)
        made[part] = sampled.round().clamp(0, 255).byte() if frames.dtype == np.uint8 else sampled
    return made


def _points(length: int, course: Course, side: str) -> np.ndarray:
    """Coordinates in the source along a side, as shares of it, of what both show all the time."""
    zooms = np.array([placement.zoom for placement in course.placements])
    shifts = np.array([getattr(placement, side) for placement in course.placements])
    low, high = max(0.0, (-shifts / zooms).max()), min(1.0, ((1 - shifts) / zooms).min())
    margin = MARGIN * (high - low)
    low, high = low + margin, high - margin
    count = max(8, round(length * math.sqrt(zooms.mean()) * (high - low)))
    return low + (np.arange(count) + 0.5) / count * (high - low)

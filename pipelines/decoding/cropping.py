"""Cropping that a container states: MP4's `clap` box and Matroska's PixelCrop.

FFmpeg's command applies it itself, to what its libraries decode; PyAV does not hand out what they read of it.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from pipelines.decoding.container import MATROSKA, MP4, Source

# A container is a tree of elements; this lists those from the file's place up to an end, each with its name
# and its own end, with the file at its content.
_List = Callable[[BinaryIO, int], Iterator[tuple[bytes, int]]]

# Matroska's names.
_SEGMENT, _TRACKS, _ENTRY = b"\x18\x53\x80\x67", b"\x16\x54\xae\x6b", b"\xae"
_TYPE, _IS_VIDEO, _VIDEO = b"\x83", 1, b"\xe0"
_SIDES = {b"\x54\xcc": "left", b"\x54\xbb": "top", b"\x54\xdd": "right", b"\x54\xaa": "bottom"}

_ENTRY_BYTES = 78  # of MP4's VisualSampleEntry before its own boxes, ISO/IEC 14496-12


@dataclass(frozen=True)
class Crop:
    """How many pixels of a decoded frame are not shown."""

    left: int = 0
    top: int = 0
    right: int = 0
    bottom: int = 0

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height of what is left of a frame."""
        return width - self.left - self.right, height - self.top - self.bottom

    def apply(self, frame: np.ndarray) -> np.ndarray:
        """What is left of a frame (H, W, 3)."""
        height, width = frame.shape[:2]
        return frame[self.top : height - self.bottom, self.left : width - self.right]


UNCROPPED = Crop()


def stated_crop(source: Source, form: str, number: int) -> Crop:
    """What a file of FFmpeg's format `form` states for its video track of this number, counted from 0."""
    read = {MP4: _of_mp4, MATROSKA: _of_matroska}.get(form)
    if read is None:
        return UNCROPPED
    with io.BytesIO(source) if isinstance(source, bytes) else Path(source).open("rb") as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        crop = next((crop for place, crop in enumerate(read(file, size)) if place == number), UNCROPPED)
    return crop if min(vars(crop).values()) >= 0 else UNCROPPED


def _of_mp4(file: BinaryIO, end: int) -> Iterator[Crop]:
    for track_end in _inside(_boxes, file, end, b"moov", b"trak"):
        begin, is_video, crop = file.tell(), False, UNCROPPED
        for _ in _inside(_boxes, file, track_end, b"mdia", b"hdlr"):
            is_video = file.read(12)[8:] == b"vide"
        file.seek(begin)
        for _ in _inside(_boxes, file, track_end, b"mdia", b"minf", b"stbl", b"stsd"):
            file.read(8)  # version and number of entries
            _, entry_end = next(_boxes(file, track_end), (b"", 0))
            entry = file.read(_ENTRY_BYTES)
            for _ in _inside(_boxes, file, entry_end, b"clap"):
                crop = _clean_aperture(file.read(32), *struct.unpack(">2H", entry[24:28]))
        if is_video:
            yield crop


def _clean_aperture(box: bytes, width: int, height: int) -> Crop:
    """From numerators and denominators of the width and height shown, and of their centre's offsets."""
    if len(box) < 32:
        return UNCROPPED
    values = struct.unpack(">8i", box)
    if not all(values[1::2]):
        return UNCROPPED
    wide, high, across, down = (above / below for above, below in zip(values[::2], values[1::2], strict=True))
    left, top = round((width - wide) / 2 + across), round((height - high) / 2 + down)
    return Crop(left, top, round(width - wide) - left, round(height - high) - top)


def _of_matroska(file: BinaryIO, end: int) -> Iterator[Crop]:
    for track_end in _inside(_elements, file, end, _SEGMENT, _TRACKS, _ENTRY):
        is_video, sides = False, {}
        for name, element_end in _elements(file, track_end):
            if name == _TYPE:
                is_video = file.read(1)[0] == _IS_VIDEO
            if name == _VIDEO:
                for side, side_end in _elements(file, element_end):
                    if side in _SIDES:
                        sides[_SIDES[side]] = int.from_bytes(file.read(side_end - file.tell()), "big")
        if is_video:
            yield Crop(**sides)


def _inside(listed: _List, file: BinaryIO, end: int, *path: bytes) -> Iterator[int]:
    """The ends of all elements at a path, with the file at their content."""
    for name, element_end in listed(file, end):
        if name == path[0]:
            yield from [element_end] if len(path) == 1 else _inside(listed, file, element_end, *path[1:])


def _boxes(file: BinaryIO, end: int) -> Iterator[tuple[bytes, int]]:
    """MP4's."""
    while (begin := file.tell()) + 8 <= end:
        size, name = struct.unpack(">I4s", file.read(8))
        if size == 1:
            size = int.from_bytes(file.read(8), "big")
        box_end = begin + size if size else end
        if not file.tell() <= box_end <= end:
            return
        yield name, box_end
        file.seek(box_end)


def _elements(file: BinaryIO, end: int) -> Iterator[tuple[bytes, int]]:
    """Matroska's: a name and a size, each as long as the zeros before its first bit that is set tell."""
    while file.tell() < end:
        name = _number(file)
        size = _number(file)
        if not name or not size:
            return
        bits = 7 * len(size)
        length = int.from_bytes(size, "big") & ((1 << bits) - 1)
        element_end = end if length == (1 << bits) - 1 else file.tell() + length  # all ones: not known
        if element_end > end:
            return
        yield name, element_end
        file.seek(element_end)


def _number(file: BinaryIO) -> bytes:
    first = file.read(1)
    return first + file.read(8 - first[0].bit_length()) if first and first[0] else b""

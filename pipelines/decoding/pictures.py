"""A clip's frames, by the decoder that is to be trusted with the file.

decord reads MP4, MKV and WebM whose frame times it reports as the container states them, from the first
frame on (after a jump it may return a neighbour of the frame asked for), where the container neither turns
nor crops frames. PyAV reads every other file (from MPEG program and transport streams decord returns wrong
frames), and all of them where decord is not installed. PyAV also reads long clips: a thread of decord decodes
ahead of the reader, all frames if that one is slow.
"""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.decoding.container import MATROSKA, MP4, File, library_errors
from pipelines.decoding.cropping import UNCROPPED, Crop
from pipelines.decoding.orientation import UPRIGHT
from pipelines.decoding.scan import Scan
from pipelines.frame_times import ROUNDING_S
from pipelines.media_types import MediaError

if TYPE_CHECKING:
    import av
    import decord

_DECORD_IMPORT = threading.Lock()
AHEAD_BYTES = 128 * 2**20
"""Frames of a clip that decord reads take at most this much."""


def read(file: File, scan: Scan, shown: np.ndarray, width: int, height: int) -> Iterator[np.ndarray]:
    """Frames, uint8 RGB (height, width, 3).

    Args:
        file: The file.
        scan: Of it.
        shown: Which frames to give, as indices into `scan.times`; ascending, and may repeat.
        width: Of a frame as displayed.
        height: Of a frame as displayed.
    """
    reader = trusted_decord(file, scan, width, height)
    frames = by_pyav(file, scan, width, height) if reader is None else by_decord(file.name, reader, width)
    repeats = np.bincount(shown, minlength=len(scan.times))
    decoded = 0
    for image, repeat in zip(frames, repeats, strict=False):
        decoded += 1
        for _ in range(repeat):
            yield image
    if decoded < len(scan.times):
        raise MediaError(f"{file.name}: {decoded} of its {len(scan.times)} frames can be decoded, wanted all")


def by_pyav(file: File, scan: Scan, width: int, height: int) -> Iterator[np.ndarray]:
    """Every frame in order, by FFmpeg."""
    width, height = scan.orientation.turned(width, height)
    with file.open() as container:
        for frame in container.frames(container.video):
            with library_errors(container.name, "a frame cannot be converted to RGB"):
                if scan.crop != UNCROPPED:
                    frame = _cropped(frame, scan.crop)
                image = frame.to_ndarray(format="rgb24", width=width, height=height)
            yield scan.orientation.apply(image)


def _cropped(frame: av.VideoFrame, crop: Crop) -> av.VideoFrame:
    import av

    return av.VideoFrame.from_ndarray(np.ascontiguousarray(crop.apply(frame.to_ndarray(format="rgb24"))))


def trusted_decord(file: File, scan: Scan, width: int, height: int) -> decord.VideoReader | None:
    """A decord reader, or None where it is not to be trusted with this file."""
    if scan.info.format not in (MP4, MATROSKA) or not scan.by_packets:
        return None
    if scan.orientation != UPRIGHT or scan.crop != UNCROPPED:
        return None
    if 3 * width * height * len(scan.times) > AHEAD_BYTES:
        return None
    decord = _decord()
    if decord is None:
        return None
    try:
        handle = io.BytesIO(file.source) if isinstance(file.source, bytes) else str(file.source)
        reader = decord.VideoReader(handle, width=width, height=height, num_threads=1)
        begins = reader.get_frame_timestamp(range(len(reader)))[:, 0]
    except decord.DECORDError:
        # PyAV then reads the file, or says what is wrong with it.
        return None
    stated = scan.times + scan.start_s
    agrees = len(begins) == len(stated) and np.abs(begins - stated).max() <= ROUNDING_S
    return reader if agrees else None


def by_decord(name: str, reader: decord.VideoReader, width: int) -> Iterator[np.ndarray]:
    """Every frame in order: after a jump decord returns neighbours of the frame (open groups of pictures)."""
    for count in range(len(reader)):
        with library_errors(name, f"its video stream breaks after {count} of {len(reader)} frames"):
            image = reader.next().asnumpy()
        # Rows are padded in memory, and decord takes the padding for channels where it divides evenly.
        rows = image.reshape(len(image), -1)[:, : 3 * width]
        yield rows.reshape(len(image), width, 3)


def _decord() -> Any:
    """The module decord, or None where it is not installed.

    Its import loads every CUDA library of the environment, 650 MB and seconds that reading on the
    CPU has no use for; so they are out of its sight for that moment.
    """
    with _DECORD_IMPORT:
        if "decord" not in sys.modules:
            visible = sys.modules.get("nvidia")
            sys.modules["nvidia"] = None  # type: ignore[assignment]
            try:
                import decord
            except ImportError:
                return None
            finally:
                del sys.modules["nvidia"]
                if visible:
                    sys.modules["nvidia"] = visible
            decord.logging.set_level(decord.logging.QUIET)
        return sys.modules["decord"]

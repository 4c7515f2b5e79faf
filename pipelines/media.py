"""Decode clips; `pipelines.encoding`, whose functions are offered here too, encodes them.

Times are seconds from the start of the file, where sound and picture begin together. Frames
are uint8 RGB (F, H, W, 3) at a constant rate; sound is float32 mono in [-1, 1].

Which decoder reads the frames is decided by evidence. The packets' display times are read
first, without decoding. decord reads MP4, MKV and WebM whose frame times it reports as the
container states them, from the first frame on (after a jump it may return a neighbour of the
frame asked for). PyAV reads every other container (from MPEG program and transport streams
decord returns wrong pictures) and files where an edit list cuts frames away, which decord counts.
"""

from __future__ import annotations

import io
import sys
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pipelines.encoding import encode_audio as encode_audio
from pipelines.encoding import encode_video as encode_video
from pipelines.encoding import mux as mux
from pipelines.frame_times import (
    ROUNDING_S,
    average_rate,
    fitted_size,
    frame_gap,
    grid_length,
    is_constant,
    shown_at,
)
from pipelines.media_types import MediaError, MediaInfo, Video, VideoStream

if TYPE_CHECKING:
    from collections.abc import Iterator

    import decord

Source = bytes | str | Path

# Matroska and WebM are one format to FFmpeg, as are MP4 and QuickTime.
_DECORD_FORMATS = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"}
# These state their duration; of others FFmpeg estimates it, so that it proves nothing.
_INDEXED_FORMATS = _DECORD_FORMATS | {"avi", "asf", "flv", "wav", "flac"}
_STILL_FORMATS = ("image2", "_pipe", "gif", "apng", "tty")
_DECORD_IMPORT = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class _Scan:
    """The packets of a file: the ground truth that decoders are held against."""

    info: MediaInfo
    times: np.ndarray = field(default_factory=lambda: np.zeros(0))
    """Display times of the frames, ascending, seconds."""
    stated: np.ndarray = field(default_factory=lambda: np.zeros(0))
    """The same as the container states them, which may not begin at 0."""
    rotation: int = 0
    """Degrees by which a picture is turned for display, a multiple of 90."""
    exact: bool = False
    """Whether every packet has a time and none is cut away."""


def probe(source: Source) -> MediaInfo:
    """What a file holds.

    Raises:
        MediaError: If it cannot be opened, is no clip, or breaks off early.
    """
    return _scan(source).info


def read_video(
    source: Source,
    *,
    fps: float | None = None,
    max_side: int | None = None,
    max_duration_s: float | None = None,
) -> Video:
    """Read a clip's frames at a constant rate, sampled by time.

    Args:
        source: A path, or the bytes of a file.
        fps: Frames a second; None takes the source's average rate, and then evenly spaced
            frames are each taken once.
        max_side: Frames are shrunk, in proportion, until the longer side is at most this many
            pixels. Only shrunk frames are held in memory.
        max_duration_s: A longer clip is refused before it is decoded.

    Raises:
        MediaError: If the file is broken, breaks off early, has no picture, or is too long.
    """
    stream = stream_video(source, fps=fps, max_side=max_side, max_duration_s=max_duration_s)
    frames = np.empty((stream.length, stream.height, stream.width, 3), dtype=np.uint8)
    for index, frame in enumerate(stream.frames):
        frames[index] = frame
    return Video(frames=frames, fps=stream.fps)


def stream_video(
    source: Source,
    *,
    fps: float | None = None,
    max_side: int | None = None,
    max_duration_s: float | None = None,
) -> VideoStream:
    """As `read_video`, but one frame at a time, so that memory does not grow with the clip.

    Raises:
        MediaError: As `read_video`; what only decoding shows is raised by the iterator.
    """
    scan, name = _scan(source), _name(source)
    if not scan.info.has_video:
        raise MediaError(f"{name}: found no video stream (format {scan.info.format}), wanted one")
    _check_duration(name, scan.info.duration_s, max_duration_s)
    rate = fps or scan.info.fps
    if rate == scan.info.fps and scan.info.constant_rate:
        wanted = np.arange(len(scan.times))
    else:
        wanted = shown_at(scan.times, rate, grid_length(scan.info.duration_s, rate))
    width, height = fitted_size(scan.info.width, scan.info.height, max_side)
    frames = _pictures(source, scan, wanted, width, height)
    return VideoStream(frames=frames, fps=rate, length=len(wanted), width=width, height=height)


def shrink(frames: np.ndarray, max_side: int) -> np.ndarray:
    """Frames, uint8 RGB (F, H, W, 3), shrunk as decoding does until the longer side is at most `max_side`."""
    import av

    height, width = frames.shape[1:3]
    to_width, to_height = fitted_size(width, height, max_side)
    if (to_width, to_height) == (width, height):
        return frames
    bicubic = av.video.reformatter.Interpolation.BICUBIC
    made = np.empty((len(frames), to_height, to_width, 3), dtype=np.uint8)
    for index, frame in enumerate(frames):
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        made[index] = picture.reformat(width=to_width, height=to_height, interpolation=bicubic).to_ndarray()
    return made


def read_audio(
    source: Source, *, sampling_rate: int = 16_000, max_duration_s: float | None = None
) -> np.ndarray:
    """Read a clip's sound as float32 mono in [-1, 1], shape (samples,).

    Channels are averaged. Sound that starts after the picture is preceded by silence.

    Args:
        source: A path, or the bytes of a file.
        sampling_rate: Samples a second of the result.
        max_duration_s: Longer sound is refused before it is decoded.

    Raises:
        MediaError: If the file is broken, breaks off early, has no sound, or is too long.
    """
    scan, name = _scan(source), _name(source)
    if not scan.info.has_audio:
        raise MediaError(f"{name}: found no audio stream (format {scan.info.format}), wanted one")
    _check_duration(name, scan.info.audio_duration_s, max_duration_s)
    chunks = list(_sound(source, sampling_rate))
    if not sum(map(len, chunks)):
        raise MediaError(f"{name}: its audio stream holds no sound that can be decoded")
    return np.clip(np.concatenate(chunks), -1.0, 1.0, dtype=np.float32)


def _name(source: Source) -> str:
    return f"<{len(source)} bytes>" if isinstance(source, bytes) else str(source)


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _check_duration(name: str, duration_s: float, max_duration_s: float | None) -> None:
    if max_duration_s is not None and duration_s > max_duration_s:
        raise MediaError(f"{name}: lasts {duration_s:.2f} s, the limit is max_duration_s {max_duration_s:g}")


def _unreadable(source: Source) -> str:
    """What a file is that no demuxer takes, from its first bytes."""
    if isinstance(source, bytes):
        head = source[:512]
    else:
        with Path(source).open("rb") as file:
            head = file.read(512)
    if head[4:8] == b"ftyp":
        return "is an MP4 whose index is missing, as of a file cut short"
    if all(byte >= 32 or byte in b"\t\n\r" for byte in head):
        return "is a text, wanted a clip"
    return "is no media file or is broken"


def _open(source: Source) -> Any:
    """An av.container.InputContainer."""
    import av

    name = _name(source)
    # What goes wrong is said by MediaError; FFmpeg's own lines would only bury it.
    av.logging.set_level(av.logging.PANIC)
    try:
        size = len(source) if isinstance(source, bytes) else Path(source).stat().st_size
        if size == 0:
            raise MediaError(f"{name}: is empty (0 bytes), wanted a clip")
        file = io.BytesIO(source) if isinstance(source, bytes) else str(source)
        container = av.open(file, **_tag_decoding())
    except OSError as error:
        raise MediaError(f"{name}: cannot be read ({_reason(error)})") from error
    except av.error.FFmpegError as error:
        raise MediaError(f"{name}: {_unreadable(source)} ({_reason(error)})") from error
    if any(still in container.format.name for still in _STILL_FORMATS):
        container.close()
        raise MediaError(f"{name}: is a still picture or a text ({container.format.name}), wanted a clip")
    return container


def _tag_decoding() -> dict[str, Any]:
    """How `av.open` is told to take tags that are not UTF-8, which PyAV 19 and newer always do."""
    import av

    return {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}


class _Packet(NamedTuple):
    stream: int
    time_s: float | None
    """When it is shown or heard."""
    duration_s: float
    """0 where the container does not say."""
    cut: bool
    """Whether an edit list cuts it away."""


def _scan(source: Source) -> _Scan:
    import av

    name = _name(source)
    with _open(source) as container:
        try:
            packets = [_packet(packet) for packet in container.demux() if packet.size]
        except av.error.FFmpegError as error:
            raise MediaError(f"{name}: breaks while its packets are read ({_reason(error)})") from error
        if not packets:
            raise MediaError(f"{name}: holds no packets, wanted a clip")
        zero_s = (container.start_time or 0) / av.time_base
        _check_whole(name, container, _end_s(packets) - zero_s)
        sound = container.streams.audio[0].index if container.streams.audio else None
        heard = [packet for packet in packets if packet.stream == sound]
        info = MediaInfo(
            format=container.format.name, audio_duration_s=_end_s(heard) - zero_s if heard else 0.0
        )
        picture = _picture(container)
        if picture is None:
            return _Scan(info=info)
        shown = [packet for packet in packets if packet.stream == picture.index]
        return _scan_picture(name, container, picture, shown, zero_s, info)


def _packet(packet: Any) -> _Packet:
    time_s = None if packet.pts is None else float(packet.pts * packet.time_base)
    return _Packet(
        packet.stream_index, time_s, float((packet.duration or 0) * packet.time_base), packet.is_discard
    )


def _end_s(packets: list[_Packet]) -> float:
    return max(
        (time_s + duration_s for _, time_s, duration_s, _ in packets if time_s is not None), default=0.0
    )


def _check_whole(name: str, container: Any, end_s: float) -> None:
    import av

    stated_s = (container.duration or 0) / av.time_base
    if container.format.name in _INDEXED_FORMATS and end_s < stated_s - max(0.2, 0.03 * stated_s):
        raise MediaError(f"{name}: breaks off after {end_s:.2f} s of the {stated_s:.2f} s that it states")


def _picture(container: Any) -> Any:
    """The first video stream that moves: a cover picture in a sound file is none."""
    import av

    attached = av.stream.Disposition.attached_pic
    return next((s for s in container.streams.video if not s.disposition & attached), None)


def _scan_picture(
    name: str, container: Any, stream: Any, packets: list[_Packet], zero_s: float, info: MediaInfo
) -> _Scan:
    timed = sorted(
        (packet.time_s, packet.duration_s)
        for packet in packets
        if packet.time_s is not None and not packet.cut
    )
    if not timed:
        raise MediaError(f"{name}: its video stream holds no frame with a time")
    stated = np.array([time_s for time_s, _ in timed])
    times = stated - zero_s
    if len(times) > 1 and is_constant(times):
        last_s = frame_gap(times)
    else:
        last_s = timed[-1][1] or 1.0 / float(stream.average_rate or 25)
    rotation, width, height = _displayed(name, container, stream)
    duration_s = float(times[-1]) + last_s
    info = replace(
        info,
        duration_s=duration_s,
        fps=average_rate(times, duration_s),
        constant_rate=is_constant(times),
        width=width,
        height=height,
    )
    return _Scan(info=info, times=times, stated=stated, rotation=rotation, exact=len(timed) == len(packets))


def _displayed(name: str, container: Any, stream: Any) -> tuple[int, int, int]:
    """Rotation in degrees, and width and height as displayed, from the first frame."""
    container.seek(0)
    frame = next(_decoded(name, container, stream), None)
    if frame is None:
        raise MediaError(f"{name}: no frame of its video stream can be decoded")
    turned = frame.rotation % 180 == 90
    return frame.rotation, *((frame.height, frame.width) if turned else (frame.width, frame.height))


def _decoded(name: str, container: Any, stream: Any) -> Iterator[Any]:
    import av

    time_s = None
    try:
        for frame in container.decode(stream):
            time_s = frame.time
            yield frame
    except av.error.FFmpegError as error:
        where = "before anything is decoded" if time_s is None else f"after {time_s:.2f} s"
        raise MediaError(f"{name}: its {stream.type} stream breaks {where} ({_reason(error)})") from error


def _sound(source: Source, sampling_rate: int) -> Iterator[np.ndarray]:
    """Mono sound in pieces, float32; first the silence until the stream starts, if it starts late."""
    import av

    resampler = av.AudioResampler(format="fltp", rate=sampling_rate)
    started = False
    with _open(source) as container:
        zero = (container.start_time or 0) / av.time_base
        for frame in _decoded(_name(source), container, container.streams.audio[0]):
            if not started:
                late_s = max(0.0, (frame.time or 0.0) - zero)
                yield np.zeros(round(late_s * sampling_rate), dtype=np.float32)
                started = True
            yield from (part.to_ndarray().mean(axis=0) for part in resampler.resample(frame))
        if started:
            yield from (part.to_ndarray().mean(axis=0) for part in resampler.resample(None))


def _pictures(
    source: Source, scan: _Scan, wanted: np.ndarray, width: int, height: int
) -> Iterator[np.ndarray]:
    """The wanted pictures, by the decoder to trust; `wanted` ascends and may repeat."""
    name, reader = _name(source), _trusted_decord(source, scan, width, height)
    if reader is None:
        pictures = _pyav_pictures(source, scan, width, height)
    else:
        pictures = _decord_pictures(name, reader, width)
    repeats = np.bincount(wanted, minlength=len(scan.times))
    decoded = 0
    for image, repeat in zip(pictures, repeats, strict=False):
        decoded += 1
        for _ in range(repeat):
            yield image
    if decoded < len(scan.times):
        raise MediaError(f"{name}: {decoded} of its {len(scan.times)} frames can be decoded, wanted all")


def _decord() -> Any:
    """The module decord.

    Its import loads every CUDA library of the environment, 650 MB and seconds that reading on the
    CPU has no use for; so they are out of its sight for that moment.
    """
    with _DECORD_IMPORT:
        if "decord" not in sys.modules:
            visible = sys.modules.get("nvidia")
            sys.modules["nvidia"] = None  # type: ignore[assignment]
            try:
                import decord
            finally:
                del sys.modules["nvidia"]
                if visible:
                    sys.modules["nvidia"] = visible
            decord.logging.set_level(decord.logging.QUIET)
        return sys.modules["decord"]


def _trusted_decord(source: Source, scan: _Scan, width: int, height: int) -> decord.VideoReader | None:
    """A decord reader, or None where it is not to be trusted with this file."""
    if scan.info.format not in _DECORD_FORMATS or not scan.exact:
        return None
    decord = _decord()
    try:
        handle = io.BytesIO(source) if isinstance(source, bytes) else str(source)
        reader = decord.VideoReader(handle, width=width, height=height, num_threads=1)
        begins = reader.get_frame_timestamp(range(len(reader)))[:, 0]
    except decord.DECORDError:
        # PyAV then reads the file, or says what is wrong with it.
        return None
    agrees = len(begins) == len(scan.stated) and np.abs(begins - scan.stated).max() <= ROUNDING_S
    return reader if agrees else None


def _decord_pictures(name: str, reader: decord.VideoReader, width: int) -> Iterator[np.ndarray]:
    """Every frame in order: after a jump decord returns neighbours of the frame (open groups of pictures)."""
    decord = _decord()
    count = 0
    try:
        while count < len(reader):
            image = reader.next().asnumpy()
            # Rows are padded in memory, and decord takes the padding for channels where it divides evenly.
            rows = image.reshape(len(image), -1)[:, : 3 * width]
            yield rows.reshape(len(image), width, 3)
            count += 1
    except (decord.DECORDError, StopIteration) as error:
        raise MediaError(f"{name}: its video stream breaks after {count} of {len(reader)} frames") from error


def _pyav_pictures(source: Source, scan: _Scan, width: int, height: int) -> Iterator[np.ndarray]:
    if scan.rotation % 180:
        width, height = height, width
    with _open(source) as container:
        for frame in _decoded(_name(source), container, _picture(container)):
            image = frame.to_ndarray(format="rgb24", width=width, height=height)
            yield np.rot90(image, scan.rotation // 90)

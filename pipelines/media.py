"""Decode and encode clips: the only module that talks to decord and PyAV.

Times are seconds from the start of the file, where sound and picture begin together. Frames
are uint8 RGB (F, H, W, 3) at a constant rate; sound is float32 mono in [-1, 1].

Which decoder reads the frames is decided by evidence. The packets' display times are read
first, without decoding. decord reads MP4, MKV and WebM whose frame times it reports as the
container states them. PyAV reads every other container (decord returns wrong pictures from
MPEG program streams), turned video, and files where decord counts frames that an edit list
cuts away.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.sampling import (
    ROUNDING_S,
    average_rate,
    fitted_size,
    frame_gap,
    grid_length,
    is_constant,
    shown_at,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    import av.container

Source = bytes | str | Path

# Matroska and WebM are one format to FFmpeg, as are MP4 and QuickTime.
_DECORD_FORMATS = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"}
_STILL_FORMATS = ("image2", "_pipe", "gif", "apng", "tty")
_X264 = {"crf": "18", "preset": "fast"}
# Leaves the library's version, dates and random ids out of the file: equal input, equal bytes.
_BITEXACT = {"fflags": "+bitexact"}


class MediaError(ValueError):
    """A file that cannot be read, or holds not what was asked for. The message names it."""


@dataclass(frozen=True)
class Video:
    """Frames at a constant rate."""

    frames: np.ndarray
    """uint8 RGB, (F, H, W, 3)."""
    fps: float
    """Frames a second."""

    @property
    def duration_s(self) -> float:
        """Seconds: frames over rate."""
        return len(self.frames) / self.fps


@dataclass(frozen=True, kw_only=True)
class MediaInfo:
    """What a file holds, known without decoding its frames."""

    format: str
    """FFmpeg's name of the container."""
    has_video: bool
    has_audio: bool
    duration_s: float
    """Of the picture where there is one, else of the sound; seconds."""
    fps: float
    """Average rate of the picture; 0 without one."""
    constant_rate: bool
    """Whether frames are evenly spaced; True without a picture."""
    width: int
    height: int
    """Pixels as displayed, after rotation; 0 without a picture."""


@dataclass(frozen=True, kw_only=True)
class _Scan:
    """The packets of a file: the ground truth that decoders are held against."""

    info: MediaInfo
    times: np.ndarray
    """Display times of the frames, ascending, seconds."""
    container_times: np.ndarray
    """The same as the container states them."""
    rotation: int
    exact: bool
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
        fps: Frames a second; None takes the source's average rate.
        max_side: Frames are shrunk, in proportion, until the longer side is at most this many
            pixels. Only shrunk frames are held in memory.
        max_duration_s: A longer clip is refused before it is decoded.

    Raises:
        MediaError: If the file is broken, breaks off early, has no picture, or is too long.
    """
    scan = _scan(source)
    name = _name(source)
    if not scan.info.has_video:
        raise MediaError(f"{name}: found no video stream (format {scan.info.format}), wanted one")
    _check_duration(name, scan.info.duration_s, max_duration_s)
    rate = fps or scan.info.fps
    wanted = shown_at(scan.times, rate, grid_length(scan.info.duration_s, rate))
    if fps is None and scan.info.constant_rate:
        wanted = np.arange(len(scan.times))
    size = fitted_size(scan.info.width, scan.info.height, max_side)
    frames = _decord_frames(source, scan, wanted, size)
    if frames is None:
        frames = _pyav_frames(source, scan, wanted, size)
    return Video(frames=frames, fps=rate)


def read_audio(
    source: Source, *, sampling_rate: int = 16_000, max_duration_s: float | None = None
) -> np.ndarray:
    """Read a clip's sound as float32 mono in [-1, 1], shape (samples,).

    Channels are averaged. Sound that starts after the picture is preceded by silence.

    Args:
        source: A path, or the bytes of a file.
        sampling_rate: Samples a second of the result.
        max_duration_s: Longer sound is refused.

    Raises:
        MediaError: If the file is broken, has no sound, or is too long.
    """
    import av

    name = _name(source)
    with _open(source) as container:
        if not container.streams.audio:
            raise MediaError(f"{name}: found no audio stream (format {container.format.name}), wanted one")
        stream = container.streams.audio[0]
        stated_s = float(stream.duration * stream.time_base) if stream.duration else 0.0
        _check_duration(name, stated_s, max_duration_s)
        resampler = av.AudioResampler(format="fltp", rate=sampling_rate)
        chunks, start_s = [], None
        try:
            for frame in container.decode(stream):
                if start_s is None:
                    start_s = (frame.time or 0.0) - (container.start_time or 0) / av.time_base
                chunks += [part.to_ndarray().mean(axis=0) for part in resampler.resample(frame)]
            chunks += [part.to_ndarray().mean(axis=0) for part in resampler.resample(None)]
        except av.error.FFmpegError as error:
            read_s = sum(map(len, chunks)) / sampling_rate
            raise MediaError(f"{name}: the sound breaks after {read_s:.2f} s ({_reason(error)})") from error
    if not chunks:
        raise MediaError(f"{name}: the audio stream holds no sound that can be decoded")
    lead = np.zeros(max(0, round((start_s or 0.0) * sampling_rate)), dtype=np.float32)
    samples = np.concatenate([lead, *chunks]).astype(np.float32)
    _check_duration(name, len(samples) / sampling_rate, max_duration_s)
    return np.clip(samples, -1.0, 1.0)


def encode_video(frames: np.ndarray, fps: float) -> bytes:
    """Encode frames as MP4: H.264, yuv420p, no sound; equal frames give equal bytes.

    Args:
        frames: uint8 RGB, (F, H, W, 3); an odd last row or column is cropped away.
        fps: Frames a second.
    """
    return _encode("mp4", frames=_even_frames(frames), fps=fps)


def encode_audio(samples: np.ndarray, sampling_rate: int = 16_000) -> bytes:
    """Encode mono sound as FLAC with 16 bits; decoding and encoding again changes nothing.

    Args:
        samples: float in [-1, 1], shape (samples,); what lies outside is clipped.
        sampling_rate: Samples a second.
    """
    return _encode("flac", samples=_pcm(samples), sampling_rate=sampling_rate)


def mux(frames: np.ndarray, fps: float, samples: np.ndarray, sampling_rate: int = 16_000) -> bytes:
    """Encode picture and sound as one playable file: Matroska with H.264 and FLAC."""
    return _encode(
        "matroska", frames=_even_frames(frames), fps=fps, samples=_pcm(samples), sampling_rate=sampling_rate
    )


def _name(source: Source) -> str:
    return f"<{len(source)} bytes>" if isinstance(source, bytes) else str(source)


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _check_duration(name: str, duration_s: float, max_duration_s: float | None) -> None:
    if max_duration_s is not None and duration_s > max_duration_s:
        raise MediaError(f"{name}: lasts {duration_s:.2f} s, the limit is max_duration_s {max_duration_s:g}")


def _open(source: Source) -> av.container.InputContainer:
    import av

    name = _name(source)
    try:
        if isinstance(source, bytes) or Path(source).stat().st_size == 0:
            if not source or not isinstance(source, bytes):
                raise MediaError(f"{name}: is empty (0 bytes), wanted a clip")
            container = av.open(io.BytesIO(source), metadata_errors="replace")
        else:
            container = av.open(str(source), metadata_errors="replace")
    except OSError as error:
        raise MediaError(f"{name}: cannot be read ({_reason(error)})") from error
    except av.error.FFmpegError as error:
        raise MediaError(f"{name}: is no media file or is broken ({_reason(error)})") from error
    if any(still in container.format.name for still in _STILL_FORMATS):
        container.close()
        raise MediaError(f"{name}: is a still picture or a text ({container.format.name}), wanted a clip")
    return container


def _scan(source: Source) -> _Scan:
    import av

    name = _name(source)
    with _open(source) as container:
        video = _picture(container)
        zero = (container.start_time or 0) / av.time_base
        stated_s = (container.duration or 0) / av.time_base
        try:
            packets = [
                (p.stream_index, p.pts, p.duration, p.is_discard, p.time_base)
                for p in container.demux()
                if p.size
            ]
        except av.error.FFmpegError as error:
            raise MediaError(f"{name}: breaks while its packets are read ({_reason(error)})") from error
        if not packets:
            raise MediaError(f"{name}: holds no packets, wanted a clip")
        ends = [
            float((pts + (duration or 0)) * base) for _, pts, duration, _, base in packets if pts is not None
        ]
        end_s = max(ends, default=0.0) - zero
        if stated_s and end_s < 0.9 * stated_s - 0.25:
            raise MediaError(f"{name}: breaks off after {end_s:.2f} s of the {stated_s:.2f} s that it states")
        has_audio = bool(container.streams.audio)
        if video is None:
            return _sound_only(container.format.name, has_audio, end_s)
        mine = [packet for packet in packets if packet[0] == video.index]
        return _scan_picture(name, container, video, mine, zero)


def _picture(container: av.container.InputContainer) -> Any:
    """The first video stream that moves: a cover picture in a sound file is none."""
    import av

    attached = av.stream.Disposition.attached_pic
    return next((s for s in container.streams.video if not s.disposition & attached), None)


def _sound_only(form: str, has_audio: bool, duration_s: float) -> _Scan:
    info = MediaInfo(
        format=form,
        has_video=False,
        has_audio=has_audio,
        duration_s=duration_s,
        fps=0.0,
        constant_rate=True,
        width=0,
        height=0,
    )
    return _Scan(info=info, times=np.zeros(0), container_times=np.zeros(0), rotation=0, exact=False)


def _scan_picture(
    name: str, container: av.container.InputContainer, stream: Any, packets: list, zero: float
) -> _Scan:
    shown = [packet for packet in packets if not packet[3]]
    timed = [packet for packet in shown if packet[1] is not None]
    if not timed:
        raise MediaError(f"{name}: its video stream holds no frame with a time")
    stated = np.sort(np.array([float(pts * base) for _, pts, _, _, base in timed]))
    times = stated - zero
    gap = frame_gap(times)
    last = max((float(duration * base) for _, pts, duration, _, base in timed[-3:] if duration), default=gap)
    if np.isnan(last) or last <= 0:
        last = 1.0 / float(stream.average_rate or 25)
    duration_s = float(times[-1]) + last
    rotation, width, height = _displayed(name, container, stream)
    info = MediaInfo(
        format=container.format.name,
        has_video=True,
        has_audio=bool(container.streams.audio),
        duration_s=duration_s,
        fps=average_rate(times, duration_s),
        constant_rate=is_constant(times),
        width=width,
        height=height,
    )
    return _Scan(
        info=info, times=times, container_times=stated, rotation=rotation, exact=len(timed) == len(packets)
    )


def _displayed(name: str, container: av.container.InputContainer, stream: Any) -> tuple[int, int, int]:
    """Rotation in degrees, and width and height as displayed, from the first frame."""
    container.seek(0)
    frame = next(_decoded(name, container, stream), None)
    if frame is None:
        raise MediaError(f"{name}: no frame of its video stream can be decoded")
    turned = frame.rotation % 180 == 90
    return frame.rotation, *((frame.height, frame.width) if turned else (frame.width, frame.height))


def _decoded(name: str, container: av.container.InputContainer, stream: Any) -> Iterator[Any]:
    import av

    time_s = None
    try:
        for frame in container.decode(stream):
            time_s = frame.time
            yield frame
    except av.error.FFmpegError as error:
        where = "before its first frame" if time_s is None else f"after {time_s:.2f} s"
        raise MediaError(f"{name}: the picture breaks {where} ({_reason(error)})") from error


def _decord_frames(
    source: Source, scan: _Scan, wanted: np.ndarray, size: tuple[int, int]
) -> np.ndarray | None:
    """The wanted frames by decord, or None where it is not to be trusted with this file."""
    if scan.info.format not in _DECORD_FORMATS or scan.rotation or not scan.exact:
        return None
    import decord

    handle = io.BytesIO(source) if isinstance(source, bytes) else str(source)
    try:
        reader = decord.VideoReader(handle, width=size[0], height=size[1], num_threads=1)
        if len(reader) != len(scan.times):
            return None
        begins = reader.get_frame_timestamp(range(len(reader)))[:, 0]
        if np.abs(begins - scan.container_times).max() > ROUNDING_S:
            return None
        return reader.get_batch(wanted.tolist()).asnumpy()
    except decord.DECORDError as error:
        first_line = str(error).strip().splitlines()[0]
        raise MediaError(f"{_name(source)}: its picture cannot be decoded ({first_line})") from error


def _pyav_frames(source: Source, scan: _Scan, wanted: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The wanted frames by PyAV, which decodes in order; `wanted` ascends and may repeat."""
    name = _name(source)
    counts = np.bincount(wanted, minlength=len(scan.times))
    width, height = size if scan.rotation % 180 == 0 else size[::-1]
    out = np.empty((len(wanted), size[1], size[0], 3), dtype=np.uint8)
    filled = index = 0
    with _open(source) as container:
        for index, frame in enumerate(_decoded(name, container, _picture(container))):
            repeat = counts[index] if index < len(counts) else 0
            if repeat:
                image = frame.to_ndarray(format="rgb24", width=width, height=height)
                out[filled : filled + repeat] = np.rot90(image, scan.rotation // 90)
                filled += repeat
    if filled < len(wanted):
        raise MediaError(f"{name}: {index + 1} of its {len(scan.times)} frames can be decoded, wanted all")
    return out


def _even_frames(frames: np.ndarray) -> np.ndarray:
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or min(frames.shape[1:3]) < 2:
        raise MediaError(
            f"frames: found {frames.dtype} {frames.shape}, wanted uint8 (F, H, W, 3) of at least 2 by 2"
        )
    if len(frames) == 0:
        raise MediaError("frames: found none, wanted at least one")
    height, width = (side - side % 2 for side in frames.shape[1:3])
    return np.ascontiguousarray(frames[:, :height, :width])


def _pcm(samples: np.ndarray) -> np.ndarray:
    if samples.ndim != 1 or len(samples) == 0 or not np.issubdtype(samples.dtype, np.floating):
        raise MediaError(
            f"samples: found {samples.dtype} {samples.shape}, wanted float (samples,), at least one"
        )
    if not np.isfinite(samples).all():
        raise MediaError("samples: found NaN or infinity, wanted values in [-1, 1]")
    return np.clip(np.round(samples.astype(np.float64) * 32768), -32768, 32767).astype(np.int16)


def _encode(
    form: str,
    *,
    frames: np.ndarray | None = None,
    fps: float = 0.0,
    samples: np.ndarray | None = None,
    sampling_rate: int = 16_000,
) -> bytes:
    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", format=form, options=_BITEXACT) as container:
        streams = []
        if frames is not None:
            streams.append(
                (_add_picture(container, frames, fps), (av.VideoFrame.from_ndarray(f) for f in frames))
            )
        if samples is not None:
            stream = container.add_stream("flac", rate=sampling_rate, layout="mono", format="s16")
            streams.append((stream, _sound_frames(samples, sampling_rate)))
        for stream, parts in streams:
            for pts, part in enumerate(parts):
                if part.pts is None:
                    part.pts = pts
                container.mux(stream.encode(part))
            container.mux(stream.encode(None))
    return buffer.getvalue()


def _add_picture(container: Any, frames: np.ndarray, fps: float) -> Any:
    stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001), options=_X264)
    stream.height, stream.width = frames.shape[1:3]
    stream.pix_fmt = "yuv420p"
    stream.codec_context.thread_count = 1
    return stream


def _sound_frames(samples: np.ndarray, sampling_rate: int) -> Iterator[Any]:
    import av

    size = 4096
    for start in range(0, len(samples), size):
        frame = av.AudioFrame.from_ndarray(samples[None, start : start + size], format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = sampling_rate, start, Fraction(1, sampling_rate)
        yield frame

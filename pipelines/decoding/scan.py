"""What a file holds and when each frame is shown: the evidence that a decoder is held against.

The packets are read first, without decoding. They tell when frames are shown wherever a packet is one
frame. Where it may not be (hidden frames of VP8, repeated ones, times that are missing, shared or cut away, a
clock that starts anew) the frames are decoded once for their times.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from pipelines.decoding import limits
from pipelines.decoding.container import MATROSKA, MP4, Container, File, library_errors
from pipelines.decoding.cropping import UNCROPPED, Crop, stated_crop
from pipelines.decoding.orientation import UPRIGHT, Orientation
from pipelines.frame_times import average_rate, frame_gap, is_constant
from pipelines.media_types import MediaError, MediaInfo

# These state their duration; of others FFmpeg estimates it, so that it proves nothing.
_INDEXED_FORMATS = {MP4, MATROSKA, "avi", "asf", "flv", "wav", "flac"}
# Codecs with packets that show nothing, or the frame before once more.
_HIDING_CODECS = {"vp8", "theora"}
# Lateness and gaps up to this are within a frame, or the rounding of a container.
NOTED_S = 0.04


@dataclass(frozen=True, kw_only=True)
class Scan:
    """A file's streams on the clip's own clock, whose 0 is where the first of them begins."""

    info: MediaInfo
    start_s: float
    """The clip's 0 on the file's clock."""
    times: np.ndarray = field(default_factory=lambda: np.zeros(0))
    """When each frame is shown, ascending, in seconds of the clip's clock."""
    crop: Crop = UNCROPPED
    """Of a decoded frame, before it is turned."""
    orientation: Orientation = UPRIGHT
    by_packets: bool = False
    """Whether every packet is one frame, shown at the packet's own time."""


class _Packet(NamedTuple):
    time_s: float | None
    """When it is shown or heard."""
    duration_s: float
    """0 where the container does not say."""
    cut: bool
    """Whether an edit list cuts it away."""
    empty: bool
    """Whether it shows the frame before once more."""
    key: bool
    """Whether it can be decoded on its own."""


class _Stream(NamedTuple):
    """What the video stream says of itself; it can be asked only while its file is open."""

    crop: Crop
    pixel_ratio: Fraction | None
    guessed_rate: float
    frame_s: float
    one_each: bool
    """Whether the codec and the clock let a packet be a frame."""


def scan(file: File, max_duration_s: float | None) -> Scan:
    """Read a file's packets and first frame, and its frames' times where packets do not tell them.

    Raises:
        MediaError: If it cannot be opened, is no clip, breaks off early, or is longer than `max_duration_s`.
    """
    with file.open() as container:
        if container.format in _INDEXED_FORMATS:
            _check_duration(container.name, container.stated_s, "", max_duration_s)
        start_s = container.start_s
        video, audio, first = _packets(container, max_duration_s)
        if not video and not audio:
            raise MediaError(f"{container.name}: holds no packets, wanted a clip")
        _check_whole(container, _end_s([*video, *audio]) - start_s)
        heard_s = _end_s(audio) - start_s if audio else 0.0
        notes = [*container.left_out(), *_audio_notes(audio, start_s, has_video=bool(video))]
        if container.jumps:
            notes.append(f"timestamps start anew {container.jumps} times, read on in the file's order")
        info = MediaInfo(format=container.format, audio_duration_s=heard_s, notes=tuple(notes))
        found = Scan(info=info, start_s=start_s)
        if container.video is None or not video:
            return found
        stream = container.video
        with library_errors(container.name, "what it states of cropping cannot be read"):
            crop = stated_crop(file.source, container.format, container.video_number)
        one_each = stream.codec_context.name not in _HIDING_CODECS and not container.jumps
        facts = _Stream(
            crop=crop,
            pixel_ratio=stream.sample_aspect_ratio,
            guessed_rate=float(stream.guessed_rate or 0),
            frame_s=1.0 / float(stream.average_rate or 25),
            one_each=one_each,
        )
    if first is None:
        raise MediaError(f"{file.name}: no frame of its video stream can be decoded")
    if first.width * first.height > limits.MAX_PIXELS:
        raise MediaError(
            f"{file.name}: its frames are {first.width}x{first.height},"
            f" the limit is {limits.MAX_PIXELS} pixels"
        )
    return _scan_video(file, found, facts, video, first)


def _packets(container: Container, max_duration_s: float | None) -> tuple[list[_Packet], list[_Packet], Any]:
    """The packets of the video and of the audio stream, and the first frame."""
    packets: dict[int, list[_Packet]] = {}
    first: list[Any] = []
    start_s = container.start_s
    for packet in container.packets():
        time_s = None if packet.pts is None else container.seconds(packet, packet.pts)
        duration_s = container.seconds(packet, packet.duration or 0)
        entry = _Packet(time_s, duration_s, packet.is_discard, not packet.size, packet.is_keyframe)
        packets.setdefault(packet.stream_index, []).append(entry)
        if time_s is not None:
            _check_duration(container.name, time_s - start_s, " or more", max_duration_s)
        is_video = container.video is not None and packet.stream_index == container.video.index
        if not first and is_video and packet.size:
            first = container.decode(container.video, packet)
    if not first and container.video is not None:
        first = container.decode(container.video, None)
    streams = (container.video, container.audio)
    video, audio = (packets.get(stream.index, []) if stream else [] for stream in streams)
    return video, audio, first[0] if first else None


def _check_duration(name: str, duration_s: float, more: str, max_duration_s: float | None) -> None:
    if max_duration_s is not None and duration_s > max_duration_s:
        raise MediaError(
            f"{name}: lasts {duration_s:.2f} s{more}, the limit is max_duration_s {max_duration_s:g}"
        )


def _end_s(packets: Sequence[_Packet]) -> float:
    return max((time_s + duration_s for time_s, duration_s, *_ in packets if time_s is not None), default=0.0)


def _check_whole(container: Container, end_s: float) -> None:
    stated_s = container.stated_s
    if container.format in _INDEXED_FORMATS and end_s < stated_s - max(0.2, 0.03 * stated_s):
        raise MediaError(
            f"{container.name}: breaks off after {end_s:.2f} s of the {stated_s:.2f} s that it states"
        )


def _audio_notes(packets: list[_Packet], start_s: float, *, has_video: bool) -> list[str]:
    timed = [
        (time_s, duration_s) for time_s, duration_s, cut, *_ in packets if time_s is not None and not cut
    ]
    if not timed:
        return []
    notes = []
    if has_video and timed[0][0] - start_s > NOTED_S:
        notes.append(f"audio begins {timed[0][0] - start_s:.2f} s after the video, silence before it")
    # MP4 gives the packet before a gap the gap's length too.
    usual_s = float(np.median([duration_s for _, duration_s in timed]))
    ends = [time_s + (duration_s if duration_s <= 2 * usual_s else usual_s) for time_s, duration_s in timed]
    gaps = [begin - end for (begin, _), end in zip(timed[1:], ends, strict=False) if begin - end > NOTED_S]
    if gaps:
        notes.append(f"audio lacks {sum(gaps):.2f} s in {len(gaps)} places, filled with silence")
    return notes


def _scan_video(file: File, found: Scan, stream: _Stream, packets: list[_Packet], first: Any) -> Scan:
    """Add the video stream, of which `first` is the first frame."""
    timed = sorted(packet for packet in packets if packet.time_s is not None and not packet.cut)
    stated = np.unique([packet.time_s for packet in timed if packet.time_s is not None])
    by_packets = stream.one_each and len(stated) == len(packets) and packets[0].key
    by_packets = by_packets and not any(packet.empty for packet in packets)
    times = (stated if by_packets else _shown(file)) - found.start_s
    beats = stated - found.start_s
    if stream.one_each:
        _check_lost(file.name, times, beats)
    # Of the rate the packets tell more than the frames: one that repeats a frame gives none.
    beats = beats if len(beats) else times
    usual_s = (timed[-1].duration_s if timed else 0.0) or stream.frame_s
    last_s = frame_gap(beats) if len(beats) > 1 and is_constant(beats) else usual_s
    orientation = Orientation.of(first)
    uncropped = first.width, first.height
    crop = stream.crop if min(stream.crop.size(*uncropped)) > 0 else UNCROPPED
    cropped = crop.size(*uncropped)
    width, height = orientation.size(*cropped, stream.pixel_ratio)
    duration_s = float(max(times[-1], beats[-1])) + last_s
    late_s = max(0.0, float(times[0]))
    notes = list(found.info.notes)
    if found.info.has_audio and late_s > NOTED_S:
        notes.append(f"video begins {late_s:.2f} s after the audio, its first frame is held")
    if (width, height) != orientation.turned(*cropped):
        notes.append(f"pixels of {stream.pixel_ratio}, resampled to square")
    if cropped != uncropped:
        notes.append("cropped from {}x{} to {}x{}, as the container states".format(*uncropped, *cropped))
    info = replace(
        found.info,
        duration_s=duration_s,
        fps=average_rate(beats, duration_s - late_s, stream.guessed_rate),
        constant_rate=is_constant(times) and len(times) == len(beats),
        width=width,
        height=height,
        notes=tuple(notes),
    )
    return replace(found, info=info, times=times, crop=crop, orientation=orientation, by_packets=by_packets)


def _check_lost(name: str, times: np.ndarray, stated: np.ndarray) -> None:
    """Refuse a stream of whose frames, from the first that can be decoded on, too many are lost."""
    due = int((stated >= times[0]).sum())
    if len(times) < due - max(1, limits.MAX_LOST * due):
        raise MediaError(f"{name}: {len(times)} of its {due} frames can be decoded, wanted all")


def _shown(file: File) -> np.ndarray:
    """When each frame is shown, by decoding all of them."""
    with file.open() as container:
        times = [frame.time for frame in container.frames(container.video)]
    if None in times:
        raise MediaError(f"{file.name}: its video stream holds a frame without a time")
    return np.maximum.accumulate(np.array(times))

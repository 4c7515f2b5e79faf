"""What a file holds and when each frame is shown: the evidence that a decoder is held against.

The packets are read first, without decoding. They tell when frames are shown wherever a packet is one
frame. Where it may not be (hidden frames of VP8, repeated ones, times that are missing, shared or cut away, a
clock that starts anew) the frames are decoded once for their times.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from pipelines.decoding.container import MAX_LOST, MAX_PIXELS, Container, File
from pipelines.decoding.orientation import UPRIGHT, Orientation
from pipelines.frame_times import average_rate, frame_gap, is_constant
from pipelines.media_types import MediaError, MediaInfo

# Matroska and WebM are one format to FFmpeg, as are MP4 and QuickTime.
MP4, MATROSKA = "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"
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
        hides = container.video.codec_context.name in _HIDING_CODECS
    if first is None:
        raise MediaError(f"{container.name}: no frame of its video stream can be decoded")
    return _scan_video(file, found, video, first, frame_each=not hides and not container.jumps)


def _packets(container: Container, max_duration_s: float | None) -> tuple[list[_Packet], list[_Packet], Any]:
    """The packets of the video and of the audio stream, and the first frame."""
    packets: dict[int, list[_Packet]] = {}
    first: list[Any] = []
    start_s = container.start_s
    for packet in container.packets():
        time_s = None if packet.pts is None else float(packet.pts * packet.time_base)
        duration_s = float((packet.duration or 0) * packet.time_base)
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


def _scan_video(file: File, found: Scan, packets: list[_Packet], first: Any, *, frame_each: bool) -> Scan:
    """Add the video stream; `frame_each` says whether the codec and the clock let a packet be a frame."""
    timed = sorted(packet for packet in packets if packet.time_s is not None and not packet.cut)
    stated = np.unique([packet.time_s for packet in timed if packet.time_s is not None])
    by_packets = frame_each and len(stated) == len(packets) and packets[0].key
    by_packets = by_packets and not any(packet.empty for packet in packets)
    with file.open() as container:
        name, stream = container.name, container.video
        assert stream is not None
        times = (stated if by_packets else _shown(container)) - found.start_s
        orientation = Orientation.of(first)
        pixel_ratio = stream.sample_aspect_ratio
        width, height = orientation.size(first.width, first.height, pixel_ratio)
        nominal = float(stream.guessed_rate or 0)
        usual_s = (timed[-1].duration_s if timed else 0.0) or 1.0 / float(stream.average_rate or 25)
        if frame_each:
            _check_lost(container, times, stated - found.start_s)
    # Of the rate the packets tell more than the frames: one that repeats a frame gives none.
    beats = stated - found.start_s if len(stated) else times
    last_s = frame_gap(beats) if len(beats) > 1 and is_constant(beats) else usual_s
    if first.width * first.height > MAX_PIXELS:
        raise MediaError(
            f"{name}: its frames are {first.width}x{first.height}, the limit is {MAX_PIXELS} pixels"
        )
    duration_s = float(max(times[-1], beats[-1])) + last_s
    late_s = max(0.0, float(times[0]))
    notes = list(found.info.notes)
    if found.info.has_audio and late_s > NOTED_S:
        notes.append(f"video begins {late_s:.2f} s after the audio, its first frame is held")
    if (width, height) != orientation.turned(first.width, first.height):
        notes.append(f"pixels of {pixel_ratio}, resampled to square")
    info = replace(
        found.info,
        duration_s=duration_s,
        fps=average_rate(beats, duration_s - late_s, nominal),
        constant_rate=is_constant(times) and len(times) == len(beats),
        width=width,
        height=height,
        notes=tuple(notes),
    )
    return replace(found, info=info, times=times, orientation=orientation, by_packets=by_packets)


def _check_lost(container: Container, times: np.ndarray, stated: np.ndarray) -> None:
    """Refuse a stream of whose frames, from the first that can be decoded on, too many are lost."""
    due = int((stated >= times[0]).sum())
    if len(times) < due - max(1, MAX_LOST * due):
        raise MediaError(f"{container.name}: {len(times)} of its {due} frames can be decoded, wanted all")


def _shown(container: Container) -> np.ndarray:
    """When each frame is shown, by decoding all of them."""
    times = [frame.time for frame in container.frames(container.video)]
    if None in times:
        raise MediaError(f"{container.name}: its video stream holds a frame without a time")
    return np.maximum.accumulate(np.array(times))

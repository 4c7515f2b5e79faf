"""Decode clips; `pipelines.encoding`, whose functions are offered here too, encodes them.

Times are seconds of the clip's own clock, whose 0 is where the first of its streams begins: video and audio
that are read from one file are in step. Frames are uint8 RGB (F, H, W, 3) at a constant rate; audio is
float32 mono in [-1, 1].
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from pipelines.decoding import pictures, sound
from pipelines.decoding.container import File, Source
from pipelines.decoding.scan import Scan, scan
from pipelines.encoding import encode_audio as encode_audio
from pipelines.encoding import encode_video as encode_video
from pipelines.encoding import mux as mux
from pipelines.frame_times import fitted_size, grid_length, shown_at
from pipelines.media_types import MediaError, MediaInfo, Video, VideoStream


@dataclass(frozen=True)
class Clip:
    """A media file whose packets were read; decodes when it is asked to."""

    file: File
    scan: Scan
    notes: list[str]
    """What is odd about the file, and what reading does about it; decoding adds to it."""

    @property
    def info(self) -> MediaInfo:
        """What the file holds."""
        return self.scan.info

    def video(self, *, fps: float | None = None, max_side: int | None = None) -> VideoStream:
        """As `read_video`, but one frame at a time, so that memory does not grow with the clip.

        Raises:
            MediaError: As `read_video`; what only decoding shows is raised by the iterator.
        """
        info = self.info
        if not info.has_video:
            raise MediaError(f"{self.file.name}: found no video stream (format {info.format}), wanted one")
        rate = fps or info.fps
        shown = _shown(self.scan, rate)
        width, height = fitted_size(info.width, info.height, max_side)
        frames = pictures.read(self.file, self.scan, shown, width, height)
        return VideoStream(frames=frames, fps=rate, length=len(shown), width=width, height=height)

    def audio(self, sampling_rate: int = 16_000) -> np.ndarray:
        """As `read_audio`.

        Raises:
            MediaError: As `read_audio`.
        """
        info, name = self.info, self.file.name
        if not info.has_audio:
            raise MediaError(f"{name}: found no audio stream (format {info.format}), wanted one")
        with self.file.open() as container:
            samples = sound.read(container, self.scan.start_s, sampling_rate)
        if container.lost:
            self.notes.append(f"{container.lost} packets of the audio cannot be decoded")
        if not len(samples):
            raise MediaError(f"{name}: its audio stream holds nothing that can be decoded")
        return np.clip(samples, -1.0, 1.0, dtype=np.float32)


def open_clip(
    source: Source, *, max_duration_s: float | None = None, audio_language: str | None = None
) -> Clip:
    """Read a file's packets and first frame; all frames, for their times, where packets do not tell them.

    Args:
        source: A path, or the bytes of a file.
        max_duration_s: A longer clip is refused.
        audio_language: Of several audio streams take that with this tag, such as eng; else the default one.

    Raises:
        MediaError: If it cannot be opened, is no clip, breaks off early, or is too long.
    """
    file = File(source, audio_language)
    found = scan(file, max_duration_s)
    return Clip(file, found, list(found.info.notes))


def probe(source: Source) -> MediaInfo:
    """What a file holds.

    Raises:
        MediaError: As `open_clip`.
    """
    return open_clip(source).info


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
        MediaError: If the file is broken, breaks off early, has no video, or is too long.
    """
    stream = open_clip(source, max_duration_s=max_duration_s).video(fps=fps, max_side=max_side)
    frames = np.empty((stream.length, stream.height, stream.width, 3), dtype=np.uint8)
    for index, frame in enumerate(stream.frames):
        frames[index] = frame
    return Video(frames=frames, fps=stream.fps)


def _shown(scanned: Scan, rate: float) -> np.ndarray:
    """Which frame is on the screen at 0, 1/rate, ... seconds."""
    info, times = scanned.info, scanned.times
    if rate != info.fps or not info.constant_rate:
        return shown_at(times, rate, grid_length(info.duration_s, rate))
    # Each frame once; the first is held where the audio begins before it.
    held = max(0, math.floor(times[0] * rate + 0.5))
    return np.concatenate([np.zeros(held, dtype=int), np.arange(len(times))])


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
    """Read a clip's audio as float32 mono in [-1, 1], shape (samples,).

    Channels are averaged, and more than two mixed down to two before; see `pipelines.decoding.sound`. What
    the stream lacks, at its start or within, is silence.

    Args:
        source: A path, or the bytes of a file.
        sampling_rate: Samples a second of the result.
        max_duration_s: A longer clip is refused before it is decoded.

    Raises:
        MediaError: If the file is broken, breaks off early, has no audio, or is too long.
    """
    return open_clip(source, max_duration_s=max_duration_s).audio(sampling_rate)

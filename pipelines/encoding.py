"""Encode clips: equal frames and samples give equal bytes, on every machine."""

from __future__ import annotations

import io
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.media_types import VideoStream, even_frames, pcm

if TYPE_CHECKING:
    from collections.abc import Iterator

# Without `cpu-independent`, x264 picks code by processor and, rarely, gives other bytes for equal frames.
_X264 = {"crf": "18", "preset": "fast", "x264-params": "cpu-independent=1"}
# Leaves the library's version, dates and random ids out of the file: equal input, equal bytes.
_BITEXACT = {"fflags": "+bitexact"}


def encode_video(frames: np.ndarray | VideoStream, fps: float) -> bytes:
    """Encode frames as MP4: H.264, yuv420p, no sound; equal frames give equal bytes.

    Args:
        frames: uint8 RGB, (F, H, W, 3), or a stream of them; an odd last row or column is
            cropped away.
        fps: Frames a second.
    """
    return _encode("mp4", frames=frames, fps=fps)


def encode_audio(samples: np.ndarray, sampling_rate: int = 16_000) -> bytes:
    """Encode mono sound as FLAC with 16 bits; decoding and encoding again changes nothing.

    Args:
        samples: float in [-1, 1], shape (samples,); what lies outside is clipped.
        sampling_rate: Samples a second.
    """
    return _encode("flac", samples=pcm(samples), sampling_rate=sampling_rate)


def mux(frames: np.ndarray, fps: float, samples: np.ndarray, sampling_rate: int = 16_000) -> bytes:
    """Encode picture and sound as one playable file: Matroska with H.264 and FLAC."""
    return _encode("matroska", frames=frames, fps=fps, samples=pcm(samples), sampling_rate=sampling_rate)


def _encode(
    form: str,
    *,
    frames: np.ndarray | VideoStream | None = None,
    fps: float = 0.0,
    samples: np.ndarray | None = None,
    sampling_rate: int = 16_000,
) -> bytes:
    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", format=form, options=_BITEXACT) as container:
        streams: list[tuple[Any, Iterator[Any]]] = []
        if frames is not None:
            streams.append(_picture_stream(container, frames, fps))
        if samples is not None:
            stream = container.add_stream("flac", rate=sampling_rate, layout="mono", format="s16")
            streams.append((stream, _sound_frames(samples, sampling_rate)))
        for stream, parts in streams:
            for part in parts:
                container.mux(stream.encode(part))
            container.mux(stream.encode(None))
    return buffer.getvalue()


def _picture_stream(
    container: Any, frames: np.ndarray | VideoStream, fps: float
) -> tuple[Any, Iterator[Any]]:
    import av

    pictures, height, width = even_frames(frames)
    stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001), options=_X264)
    stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
    stream.codec_context.thread_count = 1

    def numbered() -> Iterator[Any]:
        for index, image in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(image)
            frame.pts = index
            yield frame

    return stream, numbered()


def _sound_frames(samples: np.ndarray, sampling_rate: int) -> Iterator[Any]:
    import av

    size = 4096
    for start in range(0, len(samples), size):
        frame = av.AudioFrame.from_ndarray(samples[None, start : start + size], format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = sampling_rate, start, Fraction(1, sampling_rate)
        yield frame

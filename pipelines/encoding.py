"""Encode clips: equal frames and samples give equal bytes; with the codecs of a store, on every machine."""

from __future__ import annotations

import io
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.media_types import VideoStream, even_frames, pcm

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# Without `cpu-independent`, x264 picks code by processor and, rarely, gives other bytes for equal frames.
_X264 = {"crf": "18", "preset": "fast", "x264-params": "cpu-independent=1"}
# Leaves the library's version, dates and random ids out of the file: equal input, equal bytes.
_BITEXACT = {"fflags": "+bitexact"}


@dataclass(frozen=True, kw_only=True)
class Codec:
    """A codec for one track, by FFmpeg's names."""

    encoder: str
    form: str
    """The container."""
    options: Mapping[str, str]
    """Of the encoder."""
    bit_rate: int | None = None
    """Bits per second; None if the options decide."""


H264 = Codec(encoder="libx264", form="mp4", options=_X264)
FLAC = Codec(encoder="flac", form="flac", options={})


def encode_video(frames: np.ndarray | VideoStream, fps: float, codec: Codec = H264) -> bytes:
    """Encode frames, in a store as MP4: H.264, yuv420p, no sound; equal frames give equal bytes.

    Args:
        frames: uint8 RGB, (F, H, W, 3), or a stream of them; an odd last row or column is
            cropped away.
        fps: Frames a second.
        codec: Another one only to measure what it does to a clip.
    """
    return _encode(codec.form, frames=frames, fps=fps, video_codec=codec)


def encode_audio(samples: np.ndarray, sampling_rate: int = 16_000, codec: Codec = FLAC) -> bytes:
    """Encode mono sound, in a store as FLAC with 16 bits; decoding and encoding again changes nothing.

    Args:
        samples: float in [-1, 1], shape (samples,); what lies outside is clipped.
        sampling_rate: Samples a second.
        codec: Another one only to measure what it does to a clip.
    """
    return _encode(codec.form, samples=pcm(samples), sampling_rate=sampling_rate, audio_codec=codec)


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
    video_codec: Codec = H264,
    audio_codec: Codec = FLAC,
) -> bytes:
    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", format=form, options=_BITEXACT) as container:
        streams: list[tuple[Any, Iterator[Any]]] = []
        if frames is not None:
            streams.append(_picture_stream(container, frames, fps, video_codec))
        if samples is not None:
            stream = _stream(container, audio_codec, sampling_rate, layout="mono")
            streams.append((stream, _sound_frames(samples, sampling_rate)))
        for stream, parts in streams:
            for part in parts:
                container.mux(stream.encode(part))
            container.mux(stream.encode(None))
    return buffer.getvalue()


def _stream(container: Any, codec: Codec, rate: int | Fraction, **properties: Any) -> Any:
    stream = container.add_stream(codec.encoder, rate=rate, options=dict(codec.options), **properties)
    if codec.bit_rate is not None:
        stream.bit_rate = codec.bit_rate
    return stream


def _picture_stream(
    container: Any, frames: np.ndarray | VideoStream, fps: float, codec: Codec
) -> tuple[Any, Iterator[Any]]:
    import av

    pictures, height, width = even_frames(frames)
    stream = _stream(container, codec, Fraction(fps).limit_denominator(1001))
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

"""Small clips for tests: each frame shows its own number, so a wrong frame is seen."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np

BITS = 8


def numbered(count: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Frames uint8 (count, height, width, 3) with their index in binary as bright and dark stripes."""
    bits = (np.arange(count)[:, None] >> np.arange(BITS)) & 1
    stripes = np.repeat(bits * 210 + 20, width // BITS, axis=1).astype(np.uint8)
    stripes = np.pad(stripes, ((0, 0), (0, width - stripes.shape[1])))
    return np.broadcast_to(stripes[:, None, :, None], (count, height, width, 3)).copy()


def numbers(frames: np.ndarray) -> list[int]:
    """The indices that frames made by `numbered` show."""
    stripe = frames.shape[2] // BITS
    columns = frames[:, :, : stripe * BITS].reshape(len(frames), frames.shape[1], BITS, stripe, 3)
    bright = columns[:, :, :, stripe // 4 : -stripe // 4 or None].mean(axis=(1, 3, 4)) > 128
    return [int(value) for value in bright @ (1 << np.arange(BITS))]


def tone(duration_s: float, sampling_rate: int = 16_000, hertz: float = 440.0) -> np.ndarray:
    """A sine, float32 (samples,), at half of full scale."""
    time = np.arange(round(duration_s * sampling_rate)) / sampling_rate
    return (0.5 * np.sin(2 * np.pi * hertz * time)).astype(np.float32)


def write_clip(
    path: Path,
    frames: np.ndarray,
    *,
    codec: str = "libx264",
    form: str | None = None,
    times: np.ndarray | None = None,
    rate: int = 25,
    rotation: int = 0,
    options: dict[str, str] | None = None,
) -> Path:
    """Write frames with any codec and any display times (seconds; evenly at `rate` by default)."""
    import av

    times = np.arange(len(frames)) / rate if times is None else times
    with av.open(str(path), "w", format=form) as container:
        stream = container.add_stream(codec, rate=rate, options=options or {})
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000 if rate == 1000 else rate)
        if rotation:
            stream.set_display_rotation(rotation)
        for image, time in zip(frames, times, strict=True):
            frame = av.VideoFrame.from_ndarray(image)
            frame.time_base = stream.codec_context.time_base
            frame.pts = round(time / frame.time_base)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path

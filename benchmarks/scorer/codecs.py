"""Clips through lossy codecs: once at a good bit rate, which is harmless, or many times at a falling one.

Video functions take and return uint8 RGB (F, H, W, 3), audio functions float32 mono (samples,) at 16 kHz,
both of the same shape. The rates are ours.
"""

from __future__ import annotations

import numpy as np

from pipelines.encoding import Codec, encode_audio, encode_video
from pipelines.media import read_audio, read_video

RATE = 25.0
"""Frames per second at which video is encoded; what a codec loses hardly depends on it."""
FIRST_CRF, CRF_STEP, LAST_CRF = 20, 2, 51
"""Rate factor of the first generation, how much each next one has more, and the most that H.264 has."""
LEAST_H265_SIDE = 128
"""Pixels; x265 reads memory that is not its own in pictures of less than two of its blocks."""
FIRST_BITS, FALL, LEAST_BITS = 32_000, 0.8, 6_000
"""Bits per second of the first generation of audio, the factor to the next one, and Opus' least."""


def in_h265(frames: np.ndarray, crf: float, rng: np.random.Generator) -> np.ndarray:
    """Through H.265 at a constant rate factor in [0, 51]."""
    options = {"crf": f"{crf:g}", "preset": "veryfast", "x265-params": "log-level=error:pools=none"}
    height, width = frames.shape[1:3]
    more = [(0, max(0, LEAST_H265_SIDE - side)) for side in (height, width)]
    large = np.pad(frames, ((0, 0), *more, (0, 0)), "edge")
    return _video(large, Codec(encoder="libx265", form="mp4", options=options))[:, :height, :width]


def in_opus(samples: np.ndarray, kilobits: float, rng: np.random.Generator) -> np.ndarray:
    """Through Opus at a number of kilobits per second."""
    return _audio(samples, _opus(1000 * kilobits))


def in_aac(samples: np.ndarray, kilobits: float, rng: np.random.Generator) -> np.ndarray:
    """Through AAC at a number of kilobits per second."""
    return _audio(samples, Codec(encoder="aac", form="mp4", options={}, bit_rate=round(1000 * kilobits)))


def video_generations(frames: np.ndarray, times: float, rng: np.random.Generator) -> np.ndarray:
    """Through H.264 a number of times, at an ever lower bit rate."""
    for generation in range(int(times)):
        crf = min(FIRST_CRF + CRF_STEP * generation, LAST_CRF)
        options = {"crf": str(crf), "preset": "veryfast", "x264-params": "cpu-independent=1"}
        frames = _video(frames, Codec(encoder="libx264", form="mp4", options=options))
    return frames


def audio_generations(samples: np.ndarray, times: float, rng: np.random.Generator) -> np.ndarray:
    """Through Opus a number of times, at an ever lower bit rate."""
    for generation in range(int(times)):
        samples = _audio(samples, _opus(max(FIRST_BITS * FALL**generation, LEAST_BITS)))
    return samples


def _opus(bits: float) -> Codec:
    return Codec(encoder="libopus", form="ogg", options={}, bit_rate=round(bits))


def _video(frames: np.ndarray, codec: Codec) -> np.ndarray:
    """The decoded frames; an odd last row or column, which codecs cannot have, is repeated."""
    height, width = frames.shape[1:3]
    even = np.pad(frames, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), "edge")
    return read_video(encode_video(even, RATE, codec)).frames[:, :height, :width]


def _audio(samples: np.ndarray, codec: Codec) -> np.ndarray:
    """The decoded samples; a codec's last frame may be longer than the clip, or cut short."""
    decoded = read_audio(encode_audio(samples, codec=codec))[: len(samples)]
    return np.pad(decoded, (0, len(samples) - len(decoded)))

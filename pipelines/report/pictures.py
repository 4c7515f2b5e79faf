"""Images of clips: a strip of frames, and the spectrogram of audio.

Both span the clip's time from edge to edge, so the page can show one under the other and draw one playhead
through both.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

STRIP_FRAMES = 8
STRIP_HEIGHT = 72  # px
POSTER_SIDE = 480  # px, the longer one

SPECTROGRAM_SIZE = (480, 96)  # px
LOWEST_HZ, HIGHEST_HZ = 60.0, 7600.0
RANGE_DB = 65.0  # from the loudest point of the clip to black
_WINDOW_S = 0.032
# The colours of the spectrogram from silence to the loudest, RGB.
_RAMP = np.array(
    [(13, 17, 38), (35, 43, 110), (92, 61, 153), (193, 84, 132), (247, 146, 96), (255, 240, 200)]
)


def strip(frames: np.ndarray, count: int, height: int) -> Image.Image:
    """Frames side by side, one from the middle of each `count`th of the clip's time.

    Args:
        frames: uint8 RGB, (F, H, W, 3).
        count: The number of frames shown.
        height: Height of the result, in px.
    """
    width = max(1, round(frames.shape[2] * height / frames.shape[1]))
    middles = ((np.arange(count) + 0.5) * len(frames) / count).astype(int)
    images = [
        Image.fromarray(frame).resize((width, height), Image.Resampling.LANCZOS) for frame in frames[middles]
    ]
    return Image.fromarray(np.hstack([np.asarray(image) for image in images]))


def spectrogram(samples: np.ndarray, sampling_rate: int = 16_000) -> bytes:
    """The energy of audio over time and frequency, as PNG of `SPECTROGRAM_SIZE`.

    Frequency rises logarithmically from `LOWEST_HZ` at the bottom to `HIGHEST_HZ`; the loudest point
    is brightest, and `RANGE_DB` below it is dark. Loudness itself is therefore not shown.

    Args:
        samples: float32 mono, (samples,).
        sampling_rate: At least twice `HIGHEST_HZ`.
    """
    width, height = SPECTROGRAM_SIZE
    window = round(_WINDOW_S * sampling_rate)
    padded = np.pad(samples, window // 2)
    starts = np.linspace(0, len(padded) - window, width).astype(int)
    segments = padded[starts[:, None] + np.arange(window)]  # (width, window)
    power = np.abs(np.fft.rfft(segments * np.hanning(window), axis=1)).T ** 2  # (bins, width)
    bins = np.geomspace(HIGHEST_HZ, LOWEST_HZ, height) * window / sampling_rate  # top to bottom, fractional
    below = bins.astype(int)
    share = (bins - below)[:, None]
    rows = (1 - share) * power[below] + share * power[below + 1]  # (height, width)
    level = 10 * np.log10(rows / max(rows.max(), 1e-12) + 1e-12)
    image = Image.fromarray(np.uint8(np.clip(1 + level / RANGE_DB, 0, 1) * 255))
    image.putpalette(_palette())  # a grey level becomes the colour at its place
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return file.getvalue()


def _palette() -> list[int]:
    levels = np.linspace(0, len(_RAMP) - 1, 256)
    channels = [np.interp(levels, np.arange(len(_RAMP)), channel) for channel in _RAMP.T]
    return np.stack(channels, axis=1).round().astype(int).ravel().tolist()


def jpeg(image: Image.Image) -> bytes:
    """An image as the content of a JPEG file."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=88)
    return file.getvalue()

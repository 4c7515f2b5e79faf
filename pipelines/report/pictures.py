"""Still pictures of clips: a poster, frames along time, and sound as a spectrogram.

The strip of frames and the spectrogram span the clip's time from edge to edge, so the page can lay
one under the other and draw one playhead through both.
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


def poster(frames: np.ndarray) -> bytes:
    """The middle frame of uint8 RGB frames (F, H, W, 3), as JPEG."""
    return _jpeg(Image.fromarray(frames[len(frames) // 2]))


def strip(frames: np.ndarray, count: int, height: int) -> Image.Image:
    """Frames side by side, one of each `count`th of the clip's time.

    Args:
        frames: uint8 RGB, (F, H, W, 3).
        count: How many are shown; each is the one in the middle of its share of the time.
        height: Of the result, in px.
    """
    middles = (np.arange(count) + 0.5) * len(frames) / count
    return Image.fromarray(np.hstack([np.asarray(scaled(frames[int(middle)], height)) for middle in middles]))


def strip_jpeg(frames: np.ndarray) -> bytes:
    """`STRIP_FRAMES` frames side by side, as JPEG."""
    return _jpeg(strip(frames, STRIP_FRAMES, STRIP_HEIGHT))


def scaled(frame: np.ndarray, height: int) -> Image.Image:
    """A uint8 RGB frame (H, W, 3) at another height."""
    image = Image.fromarray(frame)
    width = max(1, round(image.width * height / image.height))
    return image.resize((width, height), Image.Resampling.LANCZOS)


def spectrogram(samples: np.ndarray, sampling_rate: int = 16_000) -> bytes:
    """A sound's energy over time and frequency, as PNG of `SPECTROGRAM_SIZE`.

    Frequency rises logarithmically from `LOWEST_HZ` at the bottom to `HIGHEST_HZ`; the loudest point
    is brightest, and `RANGE_DB` under it is dark. Loudness itself is therefore not shown.

    Args:
        samples: float32 mono, (samples,).
        sampling_rate: At least twice `HIGHEST_HZ`.
    """
    width, height = SPECTROGRAM_SIZE
    window = round(_WINDOW_S * sampling_rate)
    power = _power(samples, window, width)  # (bins, width)
    wanted = np.geomspace(HIGHEST_HZ, LOWEST_HZ, height) * window / sampling_rate  # in bins, top to bottom
    below = wanted.astype(int)
    part = (wanted - below)[:, None]
    rows = (1 - part) * power[below] + part * power[below + 1]  # (height, width)
    level = 10 * np.log10(rows / max(rows.max(), 1e-12) + 1e-12)
    image = Image.fromarray(np.uint8(np.clip(1 + level / RANGE_DB, 0, 1) * 255))
    image.putpalette(_palette())  # a grey level becomes the colour at its place
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return file.getvalue()


def _power(samples: np.ndarray, window: int, columns: int) -> np.ndarray:
    """Power spectra (window // 2 + 1, columns) at evenly spaced times, the ends padded with silence."""
    padded = np.pad(samples, window // 2)
    starts = np.linspace(0, len(padded) - window, columns).astype(int)
    cuts = padded[starts[:, None] + np.arange(window)]  # (columns, window)
    return np.abs(np.fft.rfft(cuts * np.hanning(window), axis=1)).T ** 2


def _palette() -> list[int]:
    places = np.linspace(0, len(_RAMP) - 1, 256)
    channels = [np.interp(places, np.arange(len(_RAMP)), _RAMP[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=1).round().astype(int).ravel().tolist()


def _jpeg(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=88)
    return file.getvalue()

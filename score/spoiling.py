"""Ways to spoil a clip by a known amount, and harmless changes beside them: what the scorer is tried on.

Video functions take and return uint8 RGB (F, H, W, 3), audio functions float32 mono (samples,) in
[-1, 1] at 16 kHz. Neither changes its input or its length. Which clips are spoiled is the
benchmark's affair (`score.benchmark`).
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np

from pipelines import pitch
from score.picture import Picture, resized
from score.voices import with_pitch

PIECE = 1600
"""Samples of one piece of speech that is dropped: 100 ms."""


class Means(NamedTuple):
    """One way to change a track."""

    track: Literal["video", "audio"]
    change: Callable[[np.ndarray, float, np.random.Generator], np.ndarray]
    grades: tuple[float, ...]
    """From light to strong."""
    unit: str
    """Of the grades."""
    harmless: bool = False
    """Whether a variant made so may be trained on as its source is."""


def encoded_again(track: np.ndarray, times: float, rng: np.random.Generator) -> np.ndarray:
    """The track as it is: a store's encoders do the rest. Of sound, encoded without loss, it is a copy."""
    return track


def recoloured(frames: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """The same drawing in other colours and with less contrast, mixed in by a share in [0, 1]."""
    other = 255 * (0.15 + 0.7 * (frames[..., [2, 0, 1]] / 255) ** 0.8)
    return _grey_levels((1 - share) * frames + share * other)


def noisy(frames: np.ndarray, spread: float, rng: np.random.Generator) -> np.ndarray:
    """White noise, new in each frame, with a standard deviation in grey levels."""
    return _grey_levels(frames + rng.normal(0, spread, frames.shape))


def blurred(frames: np.ndarray, factor: float, rng: np.random.Generator) -> np.ndarray:
    """Shrunk by a factor and enlarged again."""
    height, width = frames.shape[1:3]
    # Neither function looks at the rate.
    small = resized(Picture(frames, 1.0), max(1, round(height / factor)), max(1, round(width / factor)))
    return resized(small, height, width).frames


def blocky(frames: np.ndarray, quality: float, rng: np.random.Generator) -> np.ndarray:
    """Each frame as a JPEG of a quality in [1, 95]."""
    from PIL import Image

    def compressed(frame: np.ndarray) -> np.ndarray:
        buffer = io.BytesIO()
        Image.fromarray(frame).save(buffer, "JPEG", quality=int(quality))
        return np.asarray(Image.open(buffer))

    return np.stack([compressed(frame) for frame in frames])


def shuffled(frames: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """A share of the frames, two at least, each put in the place of another."""
    moved = rng.permutation(len(frames))[: max(2, round(share * len(frames)))]
    order = np.arange(len(frames))
    order[moved] = np.roll(moved, 1)
    return frames[order]


def frozen(frames: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """A share of the clip in one piece, two frames at least, shows the first frame of the piece."""
    length = min(len(frames), max(2, round(share * len(frames))))
    start = int(rng.integers(0, len(frames) - length + 1))
    order = np.arange(len(frames))
    order[start : start + length] = start
    return frames[order]


def late(frames: np.ndarray, delay: float, rng: np.random.Generator) -> np.ndarray:
    """The picture delayed by so many frames; until it begins its first frame is shown."""
    return frames[np.maximum(np.arange(len(frames)) - int(delay), 0)]


def in_noise(samples: np.ndarray, ratio_db: float, rng: np.random.Generator) -> np.ndarray:
    """In white noise at a signal-to-noise ratio in dB over the whole clip."""
    spread = np.sqrt((samples * samples).mean()) / 10 ** (ratio_db / 20)
    return _samples(samples + rng.normal(0, 1, len(samples)) * spread)


def overdriven(samples: np.ndarray, gain_db: float, rng: np.random.Generator) -> np.ndarray:
    """Amplified by so many dB and cut off where the loudest sample was."""
    peak = float(np.abs(samples).max())
    return _samples(np.clip(samples * 10 ** (gain_db / 20), -peak, peak))


def muffled(samples: np.ndarray, cutoff_hz: float, rng: np.random.Generator) -> np.ndarray:
    """Nothing left above a frequency in Hz."""
    spectrum = np.fft.rfft(samples)
    spectrum[np.fft.rfftfreq(len(samples), 1 / pitch.SAMPLING_RATE) > cutoff_hz] = 0
    return _samples(np.fft.irfft(spectrum, len(samples)))


def dropped(samples: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """A share of its pieces, one at least, silent."""
    pieces = -(-len(samples) // PIECE)
    silent = np.zeros(pieces, dtype=bool)
    silent[rng.permutation(pieces)[: max(1, round(share * pieces))]] = True
    return np.where(np.repeat(silent, PIECE)[: len(samples)], np.float32(0), samples)


def flattened(samples: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """The intonation taken away by a share in [0, 1]; at 1 the voice is a monotone."""
    return with_pitch(samples, lambda octaves: octaves + share * (octaves.mean() - octaves))


def raised(samples: np.ndarray, factor: float, rng: np.random.Generator) -> np.ndarray:
    """A voice that is higher by a constant factor."""
    return with_pitch(samples, lambda octaves: octaves + np.log2(factor))


MEANS: dict[str, Means] = {
    "encoded again": Means("video", encoded_again, (1,), "time", harmless=True),
    "colours changed": Means("video", recoloured, (0.2, 0.4, 0.6, 0.8, 1.0), "share", harmless=True),
    "noise": Means("video", noisy, (2, 5, 10, 20, 40), "grey levels"),
    "blur": Means("video", blurred, (1.25, 1.5, 2, 3, 4), "times"),
    "block artefacts": Means("video", blocky, (80, 50, 25, 10, 5), "JPEG quality"),
    "shuffled frames": Means("video", shuffled, (0.1, 0.2, 0.4, 0.7, 1.0), "of the frames"),
    "frozen": Means("video", frozen, (0.1, 0.2, 0.4, 0.7, 1.0), "of the clip"),
    "shifted in time": Means("video", late, (1, 2, 3, 5, 8), "frames"),
    "sound encoded again": Means("audio", encoded_again, (1,), "time", harmless=True),
    "pitch moved": Means("audio", raised, (1.05, 1.1, 1.2, 1.3, 1.5), "times", harmless=True),
    "noise in the sound": Means("audio", in_noise, (30, 20, 10, 5, 0), "dB SNR"),
    "clipping": Means("audio", overdriven, (3, 6, 12, 18, 24), "dB"),
    "band loss": Means("audio", muffled, (4000, 2000, 1000, 500, 250), "Hz"),
    "dropped speech": Means("audio", dropped, (0.05, 0.1, 0.2, 0.4, 0.8), "of the clip"),
    "flattened pitch": Means("audio", flattened, (0.2, 0.4, 0.6, 0.8, 1.0), "of its range"),
}


def _grey_levels(frames: np.ndarray) -> np.ndarray:
    return np.clip(np.round(frames), 0, 255).astype(np.uint8)


def _samples(samples: np.ndarray) -> np.ndarray:
    return np.clip(samples, -1, 1).astype(np.float32)

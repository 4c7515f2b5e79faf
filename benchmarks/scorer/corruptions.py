"""Ways to spoil a clip by a known amount, and harmless changes beside them: what the scorer is tried on.

Video functions take and return uint8 RGB (F, H, W, 3), audio functions float32 mono (samples,) in
[-1, 1] at 16 kHz. Neither changes its input or its length. Those of a means with a `partner` take another
clip's track besides. Which clips are spoiled is the benchmark's affair
(`benchmarks.scorer.sensitivity`).
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from benchmarks.scorer.partners import Partner, Track
from pipelines import pitch
from score.media.video import Picture, resized
from score.voice_perturbation import with_pitch

PIECE = 1600
"""Samples of one piece of speech that is dropped: 100 ms."""
FADE = 160
"""Samples over which another sound fades in and out: 10 ms."""
SHARES = (0.2, 0.4, 0.6, 0.8, 1.0)
"""How much of a clip is another's, or how far a puppet's mood is moved."""


class Means(NamedTuple):
    """One way to change a track."""

    track: Track
    change: Callable[..., np.ndarray]
    """Of the track, a grade, what is drawn from, and the partner's track where there is one."""
    grades: tuple[float, ...]
    """From light to strong."""
    unit: str
    """Of the grades."""
    harmless: bool = False
    """Whether a variant made so may be trained on as its source is."""
    partner: Partner | None = None
    """Whose track takes the place of the clip's own, or of a piece of it."""


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
    piece = _piece(len(frames), share, 2, rng)
    order = np.arange(len(frames))
    order[piece] = piece.start
    return frames[order]


def late(frames: np.ndarray, delay: float, rng: np.random.Generator) -> np.ndarray:
    """The picture delayed by so many frames; until it begins its first frame is shown."""
    return frames[np.maximum(np.arange(len(frames)) - int(delay), 0)]


def replaced(frames: np.ndarray, share: float, rng: np.random.Generator, other: np.ndarray) -> np.ndarray:
    """A share of the clip in one piece, two frames at least, shows another clip's frames of the same time."""
    piece = _piece(len(frames), share, 2, rng)
    times = np.round(np.linspace(0, len(other) - 1, len(frames))).astype(int)[piece]
    made = frames.copy()
    made[piece] = resized(Picture(other[times], 1.0), *frames.shape[1:3]).frames
    return made


def instead(frames: np.ndarray, share: float, rng: np.random.Generator, other: np.ndarray) -> np.ndarray:
    """Another drawing of the clip, in which the share is already."""
    return replaced(frames, 1.0, rng, other)


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


def another_take(
    samples: np.ndarray, share: float, rng: np.random.Generator, other: np.ndarray
) -> np.ndarray:
    """A share of the clip in one piece is what another take of the same words has at this time.

    The take is stretched to the clip's length first, its pitch stays.
    """
    return _spliced(samples, _stretched(other, len(samples)), share, rng)


def said_instead(
    samples: np.ndarray, share: float, rng: np.random.Generator, other: np.ndarray
) -> np.ndarray:
    """Another reading of the clip, in which the share is already, stretched to its length."""
    return _samples(_stretched(other, len(samples)))


def other_words(samples: np.ndarray, share: float, rng: np.random.Generator, other: np.ndarray) -> np.ndarray:
    """A share of the clip in one piece is another clip's sound, as loud as the clip."""
    level = np.sqrt((samples * samples).mean() / max(float((other * other).mean()), 1e-9))
    return _spliced(samples, np.resize(other, len(samples)) * level, share, rng)


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
    "expression moved": Means("video", instead, SHARES, "of the way", partner="redrawn"),
    "another expression": Means("video", replaced, SHARES, "of the clip", partner="same person"),
    "another face": Means("video", replaced, SHARES, "of the clip", partner="stranger"),
    "sound encoded again": Means("audio", encoded_again, (1,), "time", harmless=True),
    "pitch moved": Means("audio", raised, (1.05, 1.1, 1.2, 1.3, 1.5), "times", harmless=True),
    "noise in the sound": Means("audio", in_noise, (30, 20, 10, 5, 0), "dB SNR"),
    "clipping": Means("audio", overdriven, (3, 6, 12, 18, 24), "dB"),
    "band loss": Means("audio", muffled, (4000, 2000, 1000, 500, 250), "Hz"),
    "dropped speech": Means("audio", dropped, (0.05, 0.1, 0.2, 0.4, 0.8), "of the clip"),
    "flattened pitch": Means("audio", flattened, (0.2, 0.4, 0.6, 0.8, 1.0), "of its range"),
    "mood moved": Means("audio", said_instead, SHARES, "of the way", partner="redrawn"),
    "another take": Means("audio", another_take, SHARES, "of the clip", partner="same person"),
    "another's words": Means("audio", other_words, SHARES, "of the clip", partner="stranger"),
}


def _piece(length: int, share: float, least: int, rng: np.random.Generator) -> slice:
    """One run of a share of a track, `least` at least, somewhere in it."""
    long = min(length, max(least, round(share * length)))
    start = int(rng.integers(0, length - long + 1))
    return slice(start, start + long)


def _spliced(samples: np.ndarray, other: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """One sound with a piece of another of the same length; faded in and out, but not at the ends."""
    piece = _piece(len(samples), share, 2 * FADE, rng)
    mask = np.zeros(len(samples) + 2 * FADE)
    mask[FADE:-FADE][piece] = 1
    mask[:FADE], mask[-FADE:] = mask[FADE], mask[-FADE - 1]
    mask = np.convolve(mask, np.full(FADE + 1, 1 / (FADE + 1)), "same")[FADE:-FADE]
    return _samples((1 - mask) * samples + mask * other)


def _stretched(samples: np.ndarray, length: int) -> np.ndarray:
    """The sound faster or slower, `length` samples long; its pitch stays."""
    import torch
    from torchaudio.functional import phase_vocoder

    window, hop = torch.hann_window(512), 128
    spectrum = torch.stft(torch.from_numpy(samples), 512, hop, window=window, return_complex=True)
    advance = torch.linspace(0, np.pi * hop, 257)[:, None]
    spectrum = phase_vocoder(spectrum, len(samples) / length, advance)
    return torch.istft(spectrum, 512, hop, window=window, length=length).numpy()


def _grey_levels(frames: np.ndarray) -> np.ndarray:
    return np.clip(np.round(frames), 0, 255).astype(np.uint8)


def _samples(samples: np.ndarray) -> np.ndarray:
    return np.clip(samples, -1, 1).astype(np.float32)

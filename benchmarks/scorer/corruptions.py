"""Corruptions of a known severity, and harmless changes for comparison, to test the scorer with.

Video functions take and return uint8 RGB (F, H, W, 3), audio functions float32 mono (samples,) in
[-1, 1] at 16 kHz. They change neither their input nor its length. Those with a `partner` also take
another clip's track.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from benchmarks.scorer.partners import Partner, Track
from pipelines import pitch
from score.media.video import VideoTrack, resized
from score.voice_perturbation import clipped, with_pitch

PIECE = 1600
"""Samples of one dropped piece of speech: 100 ms."""
FADE = 160
"""Samples of a fade into and out of other audio: 10 ms."""
SHARES = (0.2, 0.4, 0.6, 0.8, 1.0)
"""Share of a clip that is another's, or of the distance that a puppet's valence is moved."""


class Corruption(NamedTuple):
    """One way to change a track."""

    track: Track
    change: Callable[..., np.ndarray]
    """Takes the track, a severity, a random generator, and the partner's track if there is one."""
    severities: tuple[float, ...]
    """From light to strong."""
    unit: str
    """Unit of the severities."""
    harmless: bool = False
    """Whether such a variant is as good for training as its source."""
    partner: Partner | None = None
    """Whose track replaces the clip's own, or a piece of it."""


def encoded_again(track: np.ndarray, times: float, rng: np.random.Generator) -> np.ndarray:
    """The unchanged track, which is encoded again; audio, encoded without loss, stays a copy."""
    return track


def recoloured(frames: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Other colours and less contrast, mixed in by a share in [0, 1]."""
    other = 255 * (0.15 + 0.7 * (frames[..., [2, 0, 1]] / 255) ** 0.8)
    return _grey_levels((1 - share) * frames + share * other)


def noisy(frames: np.ndarray, spread: float, rng: np.random.Generator) -> np.ndarray:
    """White noise, new in each frame, with a standard deviation in grey levels."""
    return _grey_levels(frames + rng.normal(0, spread, frames.shape))


def blurred(frames: np.ndarray, factor: float, rng: np.random.Generator) -> np.ndarray:
    """Shrunk by a factor and enlarged again."""
    height, width = frames.shape[1:3]
    # The rate of 1 is not used.
    small = resized(VideoTrack(frames, 1.0), max(1, round(height / factor)), max(1, round(width / factor)))
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
    """A share of the frames, two at least, in each other's places."""
    moved = rng.permutation(len(frames))[: max(2, round(share * len(frames)))]
    order = np.arange(len(frames))
    order[moved] = np.roll(moved, 1)
    return frames[order]


def frozen(frames: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """One piece of the clip, a share of it and two frames at least, shows the piece's first frame."""
    piece = _piece(len(frames), share, 2, rng)
    order = np.arange(len(frames))
    order[piece] = piece.start
    return frames[order]


def late(frames: np.ndarray, delay: float, rng: np.random.Generator) -> np.ndarray:
    """The video delayed by a number of frames; its first frame is repeated until then."""
    return frames[np.maximum(np.arange(len(frames)) - int(delay), 0)]


def replaced(frames: np.ndarray, share: float, rng: np.random.Generator, other: np.ndarray) -> np.ndarray:
    """One piece of the clip, two frames at least, shows another clip's frames of the same time."""
    piece = _piece(len(frames), share, 2, rng)
    times = np.round(np.linspace(0, len(other) - 1, len(frames))).astype(int)[piece]
    made = frames.copy()
    made[piece] = resized(VideoTrack(other[times], 1.0), *frames.shape[1:3]).frames
    return made


def instead(frames: np.ndarray, share: float, rng: np.random.Generator, other: np.ndarray) -> np.ndarray:
    """Another drawing of the whole clip; the share is already in it."""
    return replaced(frames, 1.0, rng, other)


def in_noise(samples: np.ndarray, ratio_db: float, rng: np.random.Generator) -> np.ndarray:
    """In white noise at a signal-to-noise ratio in dB over the whole clip."""
    spread = np.sqrt((samples * samples).mean()) / 10 ** (ratio_db / 20)
    return clipped(samples + rng.normal(0, 1, len(samples)) * spread)


def overdriven(samples: np.ndarray, gain_db: float, rng: np.random.Generator) -> np.ndarray:
    """Amplified by a gain in dB and clipped at the original peak."""
    peak = float(np.abs(samples).max())
    return clipped(np.clip(samples * 10 ** (gain_db / 20), -peak, peak))


def muffled(samples: np.ndarray, cutoff_hz: float, rng: np.random.Generator) -> np.ndarray:
    """Nothing above a frequency in Hz."""
    spectrum = np.fft.rfft(samples)
    spectrum[np.fft.rfftfreq(len(samples), 1 / pitch.SAMPLING_RATE) > cutoff_hz] = 0
    return clipped(np.fft.irfft(spectrum, len(samples)))


def dropped(samples: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """A share of the pieces, one at least, silent."""
    pieces = -(-len(samples) // PIECE)
    silent = np.zeros(pieces, dtype=bool)
    silent[rng.permutation(pieces)[: max(1, round(share * pieces))]] = True
    return np.where(np.repeat(silent, PIECE)[: len(samples)], np.float32(0), samples)


def another_take(
    samples: np.ndarray, share: float, rng: np.random.Generator, other: np.ndarray
) -> np.ndarray:
    """One piece of the clip is from another take of the same words, at the same time.

    The take is first stretched to the clip's length at its own pitch.
    """
    return _spliced(samples, _stretched(other, len(samples)), share, rng)


def said_instead(
    samples: np.ndarray, share: float, rng: np.random.Generator, other: np.ndarray
) -> np.ndarray:
    """Another reading of the whole clip, stretched to its length; the share is already in it."""
    return clipped(_stretched(other, len(samples)))


def other_words(samples: np.ndarray, share: float, rng: np.random.Generator, other: np.ndarray) -> np.ndarray:
    """One piece of the clip is another clip's audio, as loud as the clip."""
    level = np.sqrt((samples * samples).mean() / max(float((other * other).mean()), 1e-9))
    return _spliced(samples, np.resize(other, len(samples)) * level, share, rng)


def flattened(samples: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Intonation reduced by a share in [0, 1]; at 1 the voice is a monotone."""
    return with_pitch(samples, lambda octaves: octaves + share * (octaves.mean() - octaves))


def raised(samples: np.ndarray, factor: float, rng: np.random.Generator) -> np.ndarray:
    """Pitch raised by a constant factor."""
    return with_pitch(samples, lambda octaves: octaves + np.log2(factor))


CORRUPTIONS: dict[str, Corruption] = {
    "encoded again": Corruption("video", encoded_again, (1,), "time", harmless=True),
    "colours changed": Corruption("video", recoloured, (0.2, 0.4, 0.6, 0.8, 1.0), "share", harmless=True),
    "noise": Corruption("video", noisy, (2, 5, 10, 20, 40), "grey levels"),
    "blur": Corruption("video", blurred, (1.25, 1.5, 2, 3, 4), "times"),
    "block artefacts": Corruption("video", blocky, (80, 50, 25, 10, 5), "JPEG quality"),
    "shuffled frames": Corruption("video", shuffled, (0.1, 0.2, 0.4, 0.7, 1.0), "of the frames"),
    "frozen": Corruption("video", frozen, (0.1, 0.2, 0.4, 0.7, 1.0), "of the clip"),
    "shifted in time": Corruption("video", late, (1, 2, 3, 5, 8), "frames"),
    "expression moved": Corruption("video", instead, SHARES, "of the way", partner="redrawn"),
    "another expression": Corruption("video", replaced, SHARES, "of the clip", partner="same person"),
    "another face": Corruption("video", replaced, SHARES, "of the clip", partner="stranger"),
    "sound encoded again": Corruption("audio", encoded_again, (1,), "time", harmless=True),
    "pitch moved": Corruption("audio", raised, (1.05, 1.1, 1.2, 1.3, 1.5), "times", harmless=True),
    "noise in the sound": Corruption("audio", in_noise, (30, 20, 10, 5, 0), "dB SNR"),
    "clipping": Corruption("audio", overdriven, (3, 6, 12, 18, 24), "dB"),
    "band loss": Corruption("audio", muffled, (4000, 2000, 1000, 500, 250), "Hz"),
    "dropped speech": Corruption("audio", dropped, (0.05, 0.1, 0.2, 0.4, 0.8), "of the clip"),
    "flattened pitch": Corruption("audio", flattened, (0.2, 0.4, 0.6, 0.8, 1.0), "of its range"),
    "mood moved": Corruption("audio", said_instead, SHARES, "of the way", partner="redrawn"),
    "another take": Corruption("audio", another_take, SHARES, "of the clip", partner="same person"),
    "another's words": Corruption("audio", other_words, SHARES, "of the clip", partner="stranger"),
}


def _piece(length: int, share: float, least: int, rng: np.random.Generator) -> slice:
    """A random piece with a share of a track, of at least `least` samples or frames."""
    long = min(length, max(least, round(share * length)))
    start = int(rng.integers(0, length - long + 1))
    return slice(start, start + long)


def _spliced(samples: np.ndarray, other: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Audio with a piece of another of the same length; faded in and out, but not at the ends."""
    piece = _piece(len(samples), share, 2 * FADE, rng)
    mask = np.zeros(len(samples) + 2 * FADE)
    mask[FADE:-FADE][piece] = 1
    mask[:FADE], mask[-FADE:] = mask[FADE], mask[-FADE - 1]
    mask = np.convolve(mask, np.full(FADE + 1, 1 / (FADE + 1)), "same")[FADE:-FADE]
    return clipped((1 - mask) * samples + mask * other)


def _stretched(samples: np.ndarray, length: int) -> np.ndarray:
    """The audio faster or slower at the same pitch, `length` samples long."""
    import torch
    from torchaudio.functional import phase_vocoder

    window, hop = torch.hann_window(512), 128
    spectrum = torch.stft(torch.from_numpy(samples), 512, hop, window=window, return_complex=True)
    advance = torch.linspace(0, np.pi * hop, 257)[:, None]
    spectrum = phase_vocoder(spectrum, len(samples) / length, advance)
    return torch.istft(spectrum, 512, hop, window=window, length=length).numpy()


def _grey_levels(frames: np.ndarray) -> np.ndarray:
    return np.clip(np.round(frames), 0, 255).astype(np.uint8)

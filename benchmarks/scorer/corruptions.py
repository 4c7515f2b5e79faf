"""The corruptions of known severity, and the harmless changes, that the scorer is tested with.

A change takes a decoded track, a severity, a random generator and, if it has a `partner`, the partner's
track, and returns the new track. It keeps the length, unless it cuts the track, and its input unchanged.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from benchmarks.scorer import audio_faults, codecs, harmless, video_faults
from benchmarks.scorer.partners import Partner, Track

SHARES = (0.2, 0.4, 0.6, 0.8, 1.0)
"""Share of a clip that is another's, or of the distance that a puppet's valence is moved."""
CUTS_S = (0.08, 0.16, 0.24, 0.32, 0.48)
"""Whole frames at 12.5 and at 25 per second. A track that is shorter by more than 0.5 s is rejected."""


class Corruption(NamedTuple):
    """One way to change a track."""

    track: Track
    change: Callable[..., np.ndarray]
    """Takes the track, a severity, a random generator, and the partner's track if there is one."""
    severities: tuple[float, ...]
    """From light to strong."""
    unit: str
    """Unit of the severities. Those in `s` are passed to `change` in frames or samples."""
    harmless: bool = False
    """Whether such a variant is as good for training as its source."""
    partner: Partner | None = None
    """Whose track replaces the clip's own, or a piece of it."""


def encoded_again(track: np.ndarray, times: float, rng: np.random.Generator) -> np.ndarray:
    """The unchanged track, which is encoded again; audio, encoded without loss, stays a copy."""
    return track


def cut_at_the_start(track: np.ndarray, length: float, rng: np.random.Generator) -> np.ndarray:
    """Without a number of frames or samples at the start; what follows comes earlier."""
    return track[round(length) :]


def cut_at_the_end(track: np.ndarray, length: float, rng: np.random.Generator) -> np.ndarray:
    """Without a number of frames or samples at the end."""
    return track[: len(track) - round(length)]


_VIDEO: dict[str, Corruption] = {
    "encoded again": Corruption("video", encoded_again, (1,), "time", harmless=True),
    "colours changed": Corruption("video", harmless.recoloured, SHARES, "share", harmless=True),
    "mirrored": Corruption("video", harmless.mirrored, (1,), "time", harmless=True),
    "cropped": Corruption("video", harmless.cropped, (0.05, 0.1, 0.15), "of each side", harmless=True),
    "padded": Corruption("video", harmless.padded, (0.05, 0.1, 0.15), "of each side", harmless=True),
    "shifted in place": Corruption(
        "video", harmless.shifted, (0.02, 0.04, 0.06), "of each side", harmless=True
    ),
    "zoomed": Corruption("video", harmless.zoomed, (0.05, 0.1, 0.15), "of each side", harmless=True),
    "H.265": Corruption("video", codecs.in_h265, (16, 20, 24, 28), "rate factor", harmless=True),
    "another face, same mood": Corruption(
        "video", video_faults.instead, (1,), "time", harmless=True, partner="double"
    ),
    "noise": Corruption("video", video_faults.noisy, (2, 5, 10, 20, 40), "grey levels"),
    "blur": Corruption("video", video_faults.blurred, (1.25, 1.5, 2, 3, 4), "times"),
    "smear": Corruption("video", video_faults.smeared, (2, 3, 5, 7, 9), "frames"),
    "block artefacts": Corruption("video", video_faults.blocky, (80, 50, 25, 10, 5), "JPEG quality"),
    "generations": Corruption("video", codecs.video_generations, (2, 4, 8, 12, 16), "times"),
    "lost packets": Corruption(
        "video", video_faults.lost_packets, (0.1, 0.2, 0.4, 0.7, 0.9), "of the blocks"
    ),
    "frozen blocks": Corruption(
        "video", video_faults.frozen_blocks, (0.1, 0.2, 0.4, 0.7, 1.0), "of the blocks"
    ),
    "frozen mouth": Corruption("video", video_faults.frozen_mouth, SHARES, "of the clip"),
    "frozen": Corruption("video", video_faults.frozen, (0.1, 0.2, 0.4, 0.7, 1.0), "of the clip"),
    "held frames": Corruption("video", video_faults.held, (2, 3, 4, 6, 8), "frames"),
    "shuffled frames": Corruption("video", video_faults.shuffled, (0.1, 0.2, 0.4, 0.7, 1.0), "of the frames"),
    "shifted in time": Corruption("video", video_faults.late, (1, 2, 3, 5, 8), "frames"),
    "cut at the start": Corruption("video", cut_at_the_start, CUTS_S, "s"),
    "cut at the end": Corruption("video", cut_at_the_end, CUTS_S, "s"),
    "expression moved": Corruption("video", video_faults.instead, SHARES, "of the way", partner="redrawn"),
    "another expression": Corruption(
        "video", video_faults.replaced, SHARES, "of the clip", partner="same person"
    ),
    "another face": Corruption("video", video_faults.replaced, SHARES, "of the clip", partner="stranger"),
}
_AUDIO: dict[str, Corruption] = {
    "sound encoded again": Corruption("audio", encoded_again, (1,), "time", harmless=True),
    "pitch moved": Corruption("audio", harmless.raised, (1.05, 1.1, 1.2, 1.3, 1.5), "times", harmless=True),
    "quieter": Corruption("audio", harmless.quieter, (3, 6, 12), "dB", harmless=True),
    "opposite polarity": Corruption("audio", harmless.inverted, (1,), "time", harmless=True),
    "Opus": Corruption("audio", codecs.in_opus, (64, 32, 24), "kbit/s", harmless=True),
    "AAC": Corruption("audio", codecs.in_aac, (96, 64, 48), "kbit/s", harmless=True),
    "another voice, same mood": Corruption(
        "audio", audio_faults.said_instead, (1,), "time", harmless=True, partner="double"
    ),
    "noise in the sound": Corruption("audio", audio_faults.in_noise, (30, 20, 10, 5, 0), "dB SNR"),
    "babble": Corruption("audio", audio_faults.in_babble, (20, 10, 5, 0, -5), "dB SNR", partner="crowd"),
    "reverb": Corruption("audio", audio_faults.reverberant, (0.1, 0.2, 0.4, 0.8, 1.6), "s to -60 dB"),
    "clipping": Corruption("audio", audio_faults.overdriven, (3, 6, 12, 18, 24), "dB"),
    "band loss": Corruption("audio", audio_faults.muffled, (4000, 2000, 1000, 500, 250), "Hz"),
    "generations of sound": Corruption("audio", codecs.audio_generations, (2, 4, 8, 12, 16), "times"),
    "dropped speech": Corruption("audio", audio_faults.dropped, (0.05, 0.1, 0.2, 0.4, 0.8), "of the clip"),
    "lost packets of sound": Corruption(
        "audio", audio_faults.lost_packets, (0.05, 0.1, 0.2, 0.4, 0.7), "of the packets"
    ),
    "sound cut at the start": Corruption("audio", cut_at_the_start, CUTS_S, "s"),
    "sound cut at the end": Corruption("audio", cut_at_the_end, CUTS_S, "s"),
    "flattened pitch": Corruption("audio", audio_faults.flattened, SHARES, "of its range"),
    "mood moved": Corruption("audio", audio_faults.said_instead, SHARES, "of the way", partner="redrawn"),
    "another take": Corruption(
        "audio", audio_faults.another_take, SHARES, "of the clip", partner="same person"
    ),
    "another's words": Corruption(
        "audio", audio_faults.other_words, SHARES, "of the clip", partner="stranger"
    ),
}
CORRUPTIONS = _VIDEO | _AUDIO

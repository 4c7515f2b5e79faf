"""Faults of an audio track, of known severity.

Functions take and return float32 mono (samples,) in [-1, 1] at 16 kHz, of the same length, and do not change
their input. Their last arguments are a severity, a random generator, and another clip's audio if they need
some. The parameters are ours.
"""

from __future__ import annotations

import numpy as np

from benchmarks.scorer.random_parts import piece, places
from pipelines import pitch
from score.perturbation.voice import clipped, with_pitch

PIECE = 1600
"""Samples of one dropped piece of speech: 100 ms."""
FADE = 160
"""Samples of a fade into and out of other audio: 10 ms."""
PACKET, BURST = 320, 3
"""Samples of a packet, 20 ms; packets that are lost together."""
DECAY_DB = 60.0
"""How far a room's echo falls in its reverberation time."""


def in_noise(samples: np.ndarray, ratio_db: float, rng: np.random.Generator) -> np.ndarray:
    """In white noise at a signal-to-noise ratio in dB over the whole clip."""
    return _mixed(samples, rng.normal(0, 1, len(samples)), ratio_db)


def in_babble(
    samples: np.ndarray, ratio_db: float, rng: np.random.Generator, other: np.ndarray
) -> np.ndarray:
    """Among other voices, from a random place on, at a signal-to-noise ratio in dB over the whole clip."""
    return _mixed(samples, np.resize(np.roll(other, int(rng.integers(len(other)))), len(samples)), ratio_db)


def reverberant(samples: np.ndarray, time_s: float, rng: np.random.Generator) -> np.ndarray:
    """In a room with a reverberation time in seconds, as loud as before.

    The echo is white noise that falls exponentially. It begins equally loud in every room; at 1 s it has as
    much energy as the direct sound.
    """
    length = round(time_s * pitch.SAMPLING_RATE)
    fall = 10 ** (-DECAY_DB / 20 * np.arange(length) / length)
    # The energy of the fall is length / (2 ln(1000)) but for the millionth that is cut off.
    level = np.sqrt(DECAY_DB / 10 * np.log(10) / pitch.SAMPLING_RATE)
    response = level * rng.normal(0, 1, length) * fall
    response[0] = 1
    long = len(samples) + length
    echoing = np.fft.irfft(np.fft.rfft(samples, long) * np.fft.rfft(response, long), long)[: len(samples)]
    return clipped(echoing * _loudness(samples) / max(_loudness(echoing), 1e-9))


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
    silent = np.repeat(places(-(-len(samples) // PIECE), share, rng), PIECE)[: len(samples)]
    return np.where(silent, np.float32(0), samples)


def lost_packets(samples: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """A share of the packets, lost in bursts, is filled with the last one that came, ever quieter.

    It is silent from `BURST` packets after the last one on.
    """
    packets = np.pad(samples, (0, -len(samples) % PACKET)).reshape(-1, PACKET)
    lost = np.repeat(places(-(-len(packets) // BURST), share, rng), BURST)[: len(packets)]
    at = np.arange(len(packets))
    came = np.maximum.accumulate(np.where(lost, -1, at))
    gain = np.where(came < 0, 0, np.clip(1 - (at - came - 1) / BURST, 0, 1))
    return (packets[came] * gain[:, None]).astype(np.float32).ravel()[: len(samples)]


def flattened(samples: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Intonation reduced by a share in [0, 1]; at 1 the voice is a monotone."""
    return with_pitch(samples, lambda octaves: octaves + share * (octaves.mean() - octaves))


def another_take(
    samples: np.ndarray, share: float, rng: np.random.Generator, other: np.ndarray
) -> np.ndarray:
    """One piece of the clip is from another take of the same words, at the same time.

    The take is first stretched to the clip's length at its own pitch.
    """
    return _spliced(samples, _stretched(other, len(samples)), share, rng)


def said_instead(
    samples: np.ndarray, severity: float, rng: np.random.Generator, other: np.ndarray
) -> np.ndarray:
    """Another reading of the whole clip, which has the severity in it, stretched to the clip's length."""
    return clipped(_stretched(other, len(samples)))


def other_words(samples: np.ndarray, share: float, rng: np.random.Generator, other: np.ndarray) -> np.ndarray:
    """One piece of the clip is another clip's audio, as loud as the clip."""
    level = _loudness(samples) / max(_loudness(other), 1e-5)
    return _spliced(samples, np.resize(other, len(samples)) * level, share, rng)


def _loudness(samples: np.ndarray) -> float:
    """Root mean square."""
    return float(np.sqrt(np.square(samples, dtype=np.float64).mean()))


def _mixed(samples: np.ndarray, noise: np.ndarray, ratio_db: float) -> np.ndarray:
    level = _loudness(samples) / max(_loudness(noise), 1e-9) / 10 ** (ratio_db / 20)
    return clipped(samples + level * noise)


def _spliced(samples: np.ndarray, other: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Audio with a piece of another of the same length; faded in and out, but not at the ends."""
    part = piece(len(samples), share, 2 * FADE, rng)
    mask = np.zeros(len(samples) + 2 * FADE)
    mask[FADE:-FADE][part] = 1
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

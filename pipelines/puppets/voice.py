"""How a puppet sounds: one synthesizer, any number of voices, and a mood that only prosody carries.

The synthesizer predicts, for frames of 12.5 ms, a pitch and the spectra of a harmonic and a noise part. They
are changed before the waveform is built: the spectra are stretched along frequency (a longer or shorter
vocal tract), tilted and mixed with breath, and the pitch is moved to the voice's own. Valence changes the
pitch and its liveliness, the loudness and the rate, and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.puppets.script import SpeakerPool

if TYPE_CHECKING:
    from collections.abc import Mapping

SAMPLING_RATE = 16_000
SYNTHESIS_RATE = 24_000
VOICED_HZ = 40.0  # a lower pitch is the synthesizer's sign for an unvoiced frame
LOUDNESS = 0.045  # root mean square of a neutral sentence
QUIET = 0.02  # relative to the loudest sample: what counts as silence at the ends
MARGIN_S = 0.06  # silence that stays at the ends

# What a valence of 1 does; -1 does the opposite.
PITCH_SEMITONES = 2.5
LIVELINESS_OCTAVES = 0.8  # change of the spread of the pitch around its median
LOUDNESS_DB = 4.0
RATE_OCTAVES = 0.22

# The (pitch in Hz, stretch of the spectrum) boxes that the voices of a speaker pool are drawn from.
BOXES: Mapping[SpeakerPool, tuple[tuple[tuple[float, float], tuple[float, float]], ...]] = {
    "studio": (((88, 150), (0.82, 0.95)), ((165, 250), (0.96, 1.16))),
    "train": (((106, 129), (0.85, 0.91)), ((190, 222), (1.0, 1.08))),
    "test": (((92, 104), (0.82, 0.87)), ((132, 160), (0.9, 0.97)), ((225, 245), (1.08, 1.14))),
}


@dataclass(frozen=True, kw_only=True)
class Voice:
    """A speaker's voice, whatever the mood."""

    pitch_hz: float
    """Median pitch in a neutral mood."""
    liveliness: float
    """Spread of the pitch around its median, as a factor of the synthesizer's."""
    stretch: float
    """Stretch of the spectrum along frequency; above 1 as with a shorter vocal tract."""
    tilt_db: float
    """Gain per octave above 500 Hz."""
    breath_db: float
    """Gain of the noise part."""
    pace: float
    """Rate of speech, as a factor of the synthesizer's."""


def random_voice(rng: np.random.Generator, speaker_pool: SpeakerPool) -> Voice:
    """Draw a voice of a speaker pool."""
    boxes = BOXES[speaker_pool]
    pitch_hz, stretch = boxes[rng.integers(len(boxes))]
    return Voice(
        pitch_hz=float(rng.uniform(*pitch_hz)),
        liveliness=float(rng.uniform(0.8, 1.2)),
        stretch=float(rng.uniform(*stretch)),
        tilt_db=float(rng.uniform(-2, 2)),
        breath_db=float(rng.uniform(-3, 6)),
        pace=float(rng.uniform(0.95, 1.15)),
    )


def speak(text: str, voice: Voice, *, valence: float, rng: np.random.Generator) -> np.ndarray:
    """Say a sentence in a mood.

    Args:
        text: The words.
        voice: The speaker's voice.
        valence: The mood, in [-1, 1]; raises pitch, liveliness, loudness and rate.
        rng: Draws the noise part and small variations of the prosody.

    Returns:
        float32 mono in [-1, 1] at 16 kHz, shape (samples,).

    Raises:
        ValueError: If the text has no words, or the valence is out of its range.
    """
    if not -1 <= valence <= 1:
        raise ValueError(f"valence {valence} is not in [-1, 1]")
    samples = render(text, voice, valence=valence, rng=rng)
    loud = np.flatnonzero(np.abs(samples) > QUIET * np.abs(samples).max())
    margin = round(MARGIN_S * SAMPLING_RATE)
    return samples[max(0, loud[0] - margin) : loud[-1] + margin] if len(loud) else samples


def render(text: str, voice: Voice, *, valence: float, rng: np.random.Generator) -> np.ndarray:
    """Like `speak`, including the silence at the ends.

    Two voices of equal pace, with equal generators, say each sound at the same time.
    """
    from hibari import dsp

    rate = voice.pace * 2 ** (RATE_OCTAVES * valence + rng.normal(0, 0.02))
    harmonic, harmonic_phase, noise, rest, rest_phase, pitch = _frames(text, rate)
    axis = np.arange(len(harmonic)) / voice.stretch
    hertz = np.arange(len(harmonic)) * SYNTHESIS_RATE / 2 / (len(harmonic) - 1)
    tilt = voice.tilt_db * np.log2(np.maximum(hertz, 500) / 500)
    harmonic, noise, rest = (
        _stretched(part, axis) + (gain * np.log(10) / 20).astype(np.float32)[:, None]  # from dB to nepers
        for part, gain in ((harmonic, tilt), (noise, tilt + voice.breath_db), (rest, tilt))
    )
    wave = dsp.synth(
        harmonic,
        _stretched(harmonic_phase, axis),
        noise,
        rest,
        _stretched(rest_phase, axis),
        _moved_pitch(pitch, voice, valence + rng.normal(0, 0.03)),
        rng,
    )
    loudness = LOUDNESS * 10 ** ((LOUDNESS_DB * valence + rng.normal(0, 0.3)) / 20)
    samples = _resampled(wave)
    rms = float(np.sqrt(np.square(samples, dtype=np.float64).mean()))
    return np.clip(samples * loudness / (rms + 1e-9), -1, 1).astype(np.float32)


def mouth_opening(samples: np.ndarray, fps: float, sampling_rate: int = SAMPLING_RATE) -> np.ndarray:
    """How far a mouth opens at each video frame of speech.

    Args:
        samples: Mono audio, shape (samples,), at `sampling_rate` Hz.
        fps: Video frames per second.
        sampling_rate: In Hz.

    Returns:
        float64 in [0, 1], shape (round(seconds * fps),), at least one frame: the root mean square around
        the frame's time relative to that of the loud parts, so that loudness does not matter.
    """
    frames = max(1, round(len(samples) / sampling_rate * fps))
    half = sampling_rate / fps / 2
    centres = (np.arange(frames) + 0.5) * 2 * half
    power = np.concatenate([[0.0], np.cumsum(np.square(samples, dtype=np.float64))])
    starts, stops = ((centres + side * half).clip(0, len(samples)).astype(int) for side in (-1, 1))
    level = np.sqrt((power[stops] - power[starts]) / np.maximum(stops - starts, 1))
    return np.clip(level / (np.quantile(level, 0.9) + 1e-6), 0, 1) ** 0.8


@lru_cache(maxsize=1)
def _synthesizer() -> Any:
    from hibari import Hibari

    return Hibari()


def _frames(text: str, rate: float) -> list[np.ndarray]:
    """Log spectra, phases and pitch per frame; spectra are (bins, frames)."""
    synthesizer = _synthesizer()
    phonemes = synthesizer.phonemize(text)
    if not phonemes:
        raise ValueError(f"{text!r}: no words to say")
    inputs = {
        "ids": np.asarray([synthesizer.ids(" ".join(phonemes))], np.int64),
        "speed": np.asarray([rate], np.float32),
    }
    return [output[0] for output in synthesizer.sess.run(None, inputs)]


def _moved_pitch(pitch: np.ndarray, voice: Voice, valence: float) -> np.ndarray:
    voiced = pitch > VOICED_HZ
    if not voiced.any():
        return pitch
    octaves = np.log2(np.maximum(pitch, VOICED_HZ))
    around = octaves - np.median(octaves[voiced])
    lively = voice.liveliness * 2 ** (LIVELINESS_OCTAVES * valence)
    moved = voice.pitch_hz * 2 ** (lively * around + PITCH_SEMITONES / 12 * valence)
    return np.where(voiced, moved.clip(60, 500), 0).astype(np.float32)


def _stretched(part: np.ndarray, axis: np.ndarray) -> np.ndarray:
    """(bins, frames) interpolated at fractional bins; the last bin repeats above the spectrum."""
    axis = np.minimum(axis, len(part) - 1)
    low = np.minimum(axis.astype(int), len(part) - 2)
    share = (axis - low)[:, None]
    return ((1 - share) * part[low] + share * part[low + 1]).astype(np.float32)


def _resampled(wave: np.ndarray) -> np.ndarray:
    """From 24 to 16 kHz by cutting the spectrum."""
    wave = np.pad(wave, (0, -len(wave) % 3))
    samples = len(wave) // 3 * 2
    spectrum = np.fft.rfft(wave)[: samples // 2 + 1]
    return np.fft.irfft(spectrum, samples) * (samples / len(wave))

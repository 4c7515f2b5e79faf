"""Puppets' voices: the mood is in the prosody, the voice is not, and everything is seeded."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipelines.puppets import voice
from pipelines.puppets.voice import Voice, mouth_opening, random_voice, speak

TEXT = "i really thought the ending was quite wonderful"
WOMAN = Voice(pitch_hz=210, liveliness=1, stretch=1.05, tilt_db=0, breath_db=0, pace=1)


def say(who: Voice, valence: float, seed: int = 3) -> np.ndarray:
    return speak(TEXT, who, valence=valence, rng=np.random.default_rng(seed))


def rms(samples: np.ndarray) -> float:
    return float(np.sqrt((samples.astype(float) ** 2).mean()))


def envelope(samples: np.ndarray) -> np.ndarray:
    """Log spectrum over 600 to 6000 Hz, 200 steps an octave, smoothed over a quarter of an octave."""
    power = np.abs(np.fft.rfft(samples)) ** 2
    octaves = np.arange(0, np.log2(10), 1 / 200)
    at = 600 * 2**octaves * len(samples) / 16_000
    edges = np.concatenate([[0.0], np.cumsum(power)])
    narrow, wide = ((at * factor).astype(int) for factor in (2**-0.125, 2**0.125))
    return np.log((edges[wide] - edges[narrow]) / (wide - narrow))


def shift_octaves(one: np.ndarray, other: np.ndarray) -> float:
    """How far `other`'s envelope lies above that of `one`."""
    steps = range(-60, 61)
    inner = envelope(one)[60:-60]
    others = [envelope(other)[60 + step : len(inner) + 60 + step] for step in steps]
    return steps[int(np.argmax([np.corrcoef(inner, values)[0, 1] for values in others]))] / 200


def test_equal_seeds_give_equal_sounds_and_others_others() -> None:
    assert np.array_equal(say(WOMAN, 0.3), say(WOMAN, 0.3))
    assert not np.array_equal(say(WOMAN, 0.3), say(WOMAN, 0.3, seed=4))


def test_sound_is_mono_float32_within_its_range() -> None:
    for valence in (-1, 0, 1):
        samples = say(WOMAN, valence)
        assert samples.dtype == np.float32
        assert samples.ndim == 1
        assert 1.5 < len(samples) / voice.SAMPLING_RATE < 4
        assert (np.abs(samples) >= 1).mean() < 1e-3


def test_a_brighter_mood_is_louder_faster_and_higher() -> None:
    moods = [say(WOMAN, valence) for valence in (-1.0, -0.5, 0.0, 0.5, 1.0)]
    assert np.all(np.diff([rms(samples) for samples in moods]) > 0)
    assert np.all(np.diff([len(samples) for samples in moods]) < 0)
    frames = voice._frames(TEXT, 1.0)[-1]
    pitches = [voice._moved_pitch(frames, WOMAN, valence) for valence in (-1.0, 0.0, 1.0)]
    voiced = [pitch[pitch > 0] for pitch in pitches]
    assert np.all(np.diff([np.median(pitch) for pitch in voiced]) > 20)
    assert np.all(np.diff([np.log2(pitch).std() for pitch in voiced]) > 0.02)


def test_a_shorter_vocal_tract_moves_the_spectrum_up_whatever_the_mood() -> None:
    for valence in (-1.0, 0.0, 1.0):
        shorter = say(replace(WOMAN, stretch=WOMAN.stretch * 1.15), valence)
        assert shift_octaves(say(WOMAN, valence), shorter) == pytest.approx(np.log2(1.15), abs=0.06)


def test_casts_have_voices_of_their_own() -> None:
    rng = np.random.default_rng(0)
    pitches = {cast: {round(random_voice(rng, cast).pitch_hz) for _ in range(200)} for cast in voice.BOXES}
    assert not pitches["train"] & pitches["test"]
    for cast in ("train", "test"):
        assert min(pitches[cast]) >= min(pitches["studio"]) - 1
        assert max(pitches[cast]) <= max(pitches["studio"]) + 1


def test_a_mouth_opens_with_the_sound_and_not_with_its_loudness() -> None:
    samples = np.zeros(16_000, np.float32)
    samples[4_000:8_000] = np.sin(np.arange(4_000) / 5)
    opening = mouth_opening(samples, fps=10)
    assert opening.shape == (10,)
    assert opening[:2].max() == 0
    assert opening[3:5].min() > 0.9
    assert opening[8:].max() == 0
    assert np.allclose(mouth_opening(samples * 0.1, fps=10), opening, atol=1e-3)
    assert mouth_opening(np.zeros(100, np.float32), fps=10).tolist() == [0.0]


def test_nothing_to_say_and_impossible_moods_are_refused() -> None:
    with pytest.raises(ValueError, match="no words to say"):
        speak(" ", WOMAN, valence=0, rng=np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"valence 2 is not in \[-1, 1\]"):
        speak("hello", WOMAN, valence=2, rng=np.random.default_rng(0))

"""Pitch, loudness and spectrum against sounds whose values are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torchaudio

from pipelines.media import read_audio
from score.sound import FRAME_RATE, SAMPLING_RATE, Sound
from tests.score.clips import voice, with_noise


@pytest.mark.parametrize("hertz", [75.0, 120.0, 233.0, 410.0])
def test_the_pitch_of_a_tone_with_harmonics(hertz: float) -> None:
    time = np.arange(SAMPLING_RATE) / SAMPLING_RATE
    tone = sum(np.sin(2 * np.pi * n * hertz * time) / n for n in range(1, 9))
    pitch = Sound((0.2 * tone).astype(np.float32)).pitch
    assert np.isfinite(pitch).mean() > 0.9
    np.testing.assert_allclose(2 ** pitch[np.isfinite(pitch)], hertz, rtol=0.01)


def test_the_pitch_of_a_fundamental_that_is_missing() -> None:
    time = np.arange(SAMPLING_RATE) / SAMPLING_RATE
    tone = sum(np.sin(2 * np.pi * n * 130 * time) for n in range(3, 8))
    pitch = Sound((0.05 * tone).astype(np.float32)).pitch
    assert np.nanmedian(2**pitch) == pytest.approx(130, rel=0.01)


def test_noise_and_silence_have_no_pitch() -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, SAMPLING_RATE).astype(np.float32)
    assert np.isfinite(Sound(noise).pitch).mean() < 0.05
    silence = Sound(np.zeros(SAMPLING_RATE, dtype=np.float32))
    assert silence.silent
    assert not np.isfinite(silence.pitch).any()
    assert np.isfinite(silence.features).all()


def test_the_pitch_survives_noise() -> None:
    clean, dirty = Sound(voice(3)).pitch, Sound(with_noise(voice(3), 15)).pitch
    both = np.isfinite(clean) & np.isfinite(dirty)
    assert both.sum() > 0.7 * np.isfinite(clean).sum()
    assert np.median(np.abs(clean[both] - dirty[both])) < 0.01


def test_loudness_follows_the_amplitude_and_not_the_gain() -> None:
    samples = voice(1)
    np.testing.assert_allclose(Sound(samples).energy, Sound(0.25 * samples).energy, atol=1e-6)
    steps = np.repeat([1.0, 0.1, 1.0], SAMPLING_RATE // 2) * np.sin(np.arange(1.5 * SAMPLING_RATE) * 0.3)
    energy = Sound(steps.astype(np.float32)).energy
    assert energy[75] == pytest.approx(-20, abs=0.3)
    assert energy[25] == pytest.approx(0, abs=0.3)


def test_loudness_at_the_frames_of_a_picture() -> None:
    sound = Sound(voice(2, seconds=2.0))
    at = sound.energy_at(fps=25.0, length=60)
    assert len(at) == 50  # the sound ends after 2 s
    assert at[10] == pytest.approx(sound.energy[40:44].mean())
    assert len(sound.energy) == round(2 * FRAME_RATE)


def test_a_sound_shorter_than_a_window_has_values() -> None:
    tiny = Sound(np.full(30, 0.1, dtype=np.float32))
    assert len(tiny.energy) == 1
    assert np.isfinite(tiny.features).all()


def test_pitch_of_real_speech_is_what_another_tracker_finds(shared: Path) -> None:
    speech = read_audio(shared / "media" / "voices" / "jfk.flac")
    pitch = Sound(speech).pitch
    voiced = np.isfinite(pitch)
    assert 0.2 < voiced.mean() < 0.9
    other = torchaudio.functional.detect_pitch_frequency(torch.from_numpy(speech)[None], SAMPLING_RATE)[0]
    length = min(len(pitch), len(other))
    distance = np.abs(pitch[:length] - np.log2(other[:length].numpy()))[voiced[:length]]
    assert (distance < 0.2).mean() > 0.75

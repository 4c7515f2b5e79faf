"""Pitch, loudness and spectrum against sounds whose values are known."""

from __future__ import annotations

import numpy as np
import pytest

from score.media.audio import FRAME_RATE, SAMPLING_RATE, AudioTrack
from tests.score.clips import voice, with_noise


def test_silence_has_no_pitch() -> None:
    silence = AudioTrack(np.zeros(SAMPLING_RATE, dtype=np.float32))
    assert silence.silent
    assert not np.isfinite(silence.pitch).any()
    assert np.isfinite(silence.features).all()


def test_the_pitch_survives_noise() -> None:
    clean, dirty = AudioTrack(voice(3)).pitch, AudioTrack(with_noise(voice(3), 15)).pitch
    both = np.isfinite(clean) & np.isfinite(dirty)
    assert both.sum() > 0.7 * np.isfinite(clean).sum()
    assert np.median(np.abs(clean[both] - dirty[both])) < 0.01


def test_loudness_follows_the_amplitude_and_not_the_gain() -> None:
    samples = voice(1)
    np.testing.assert_allclose(AudioTrack(samples).energy, AudioTrack(0.25 * samples).energy, atol=1e-6)
    steps = np.repeat([1.0, 0.1, 1.0], SAMPLING_RATE // 2) * np.sin(np.arange(1.5 * SAMPLING_RATE) * 0.3)
    energy = AudioTrack(steps.astype(np.float32)).energy
    assert energy[75] == pytest.approx(-20, abs=0.3)
    assert energy[25] == pytest.approx(0, abs=0.3)


def test_loudness_at_the_frames_of_a_picture() -> None:
    sound = AudioTrack(voice(2, seconds=2.0))
    at = sound.energy_at(fps=25.0, length=60)
    assert len(at) == 50  # the sound ends after 2 s
    assert at[10] == pytest.approx(sound.energy[40:44].mean())
    assert len(sound.energy) == round(2 * FRAME_RATE)


def test_a_sound_shorter_than_a_window_has_values() -> None:
    tiny = AudioTrack(np.full(30, 0.1, dtype=np.float32))
    assert len(tiny.energy) == 1
    assert np.isfinite(tiny.features).all()

"""The pitch of sounds whose pitch is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torchaudio

from pipelines.media import read_audio
from pipelines.pitch import HOP, SAMPLING_RATE, track

TIME = np.arange(SAMPLING_RATE) / SAMPLING_RATE


def harmonics(hertz: float, numbers: range) -> np.ndarray:
    tone = sum(np.sin(2 * np.pi * number * hertz * TIME) / number for number in numbers)
    return (0.2 * tone).astype(np.float32)


@pytest.mark.parametrize("hertz", [75.0, 120.0, 233.0, 410.0])
def test_a_tone_with_harmonics(hertz: float) -> None:
    pitch = track(harmonics(hertz, range(1, 9)))
    assert len(pitch) == SAMPLING_RATE // HOP + 1
    assert np.isfinite(pitch).mean() > 0.9
    np.testing.assert_allclose(pitch[np.isfinite(pitch)][2:-2], hertz, rtol=0.02)


def test_frames_lie_where_they_say() -> None:
    """A glide from 100 to 200 Hz is at 150 in its middle."""
    hertz = 100 + 100 * TIME
    phase = 2 * np.pi * np.cumsum(hertz) / SAMPLING_RATE
    glide = sum(np.sin(number * phase) / number for number in range(1, 6))
    pitch = track((0.2 * glide).astype(np.float32))
    expected = 100 + 100 * np.arange(len(pitch)) * HOP / SAMPLING_RATE
    voiced = np.isfinite(pitch)
    assert np.median((pitch - expected)[voiced]) == pytest.approx(0, abs=0.7)


@pytest.mark.parametrize("level", [0.1, 0.0])
def test_noise_and_silence_have_none(level: float) -> None:
    noise = np.random.default_rng(0).normal(0, 1, SAMPLING_RATE).astype(np.float32)
    assert np.isfinite(track(level * noise)).mean() < 0.05
    assert len(track(noise[:1])) == 1


def test_a_fundamental_that_is_missing_is_found() -> None:
    pitch = track(harmonics(130, range(3, 8)))
    assert np.nanmedian(pitch) == pytest.approx(130, rel=0.02)


def test_real_speech_has_the_pitch_that_another_tracker_finds(shared: Path) -> None:
    speech = read_audio(shared / "media" / "voices" / "jfk.flac")
    pitch = track(speech)
    assert 0.2 < np.isfinite(pitch).mean() < 0.9
    waveform = torch.from_numpy(speech)[None]
    other = torchaudio.functional.detect_pitch_frequency(waveform, SAMPLING_RATE, HOP / SAMPLING_RATE)[
        0
    ].numpy()
    voiced = np.flatnonzero(np.isfinite(pitch[: len(other)]))
    assert (np.abs(np.log2(pitch[voiced] / other[voiced])) < 0.2).mean() > 0.9

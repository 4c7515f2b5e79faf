"""The pitch contour: right on tones with overtones, absent where there is none, and scale-free."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.pitch import contour
from pipelines.puppets import voice


def tone(hertz: np.ndarray, sampling_rate: int = 16_000) -> np.ndarray:
    phase = 2 * np.pi * np.cumsum(hertz) / sampling_rate
    return 0.1 * sum(np.sin(k * phase) / k for k in range(1, 12))


@pytest.mark.parametrize("hertz", [80.0, 131.0, 220.0, 390.0])
@pytest.mark.parametrize("sampling_rate", [16_000, 24_000, 44_100])
def test_a_steady_tone(hertz: float, sampling_rate: int) -> None:
    samples = tone(np.full(sampling_rate, hertz), sampling_rate)
    found = 2 ** contour(samples, sampling_rate)[5:-5]
    assert np.abs(found / hertz - 1).max() < 0.01


def test_a_glide_is_followed_and_loudness_does_not_matter() -> None:
    hertz = np.geomspace(100, 250, 32_000)
    found = contour(tone(hertz), 16_000, hop_s=0.0125)
    assert len(found) == 160
    assert np.abs(2 ** found[4:-4] / hertz[::200][4:-4] - 1).max() < 0.02
    assert np.allclose(contour(0.05 * tone(hertz), 16_000, hop_s=0.0125), found, equal_nan=True)


def test_noise_silence_and_a_click_have_no_pitch() -> None:
    rng = np.random.default_rng(0)
    assert np.isnan(contour(np.zeros(16_000), 16_000)).all()
    assert np.isnan(contour(rng.normal(0, 0.1, 16_000), 16_000)).mean() > 0.95
    assert contour(np.zeros(5), 16_000).shape == (1,)


def test_puppets_are_heard_at_the_pitch_they_speak_at() -> None:
    rng = np.random.default_rng(1)
    for cast in ("studio", "train", "test"):
        for _ in range(4):
            who = voice.random_voice(rng, cast)
            samples = voice.speak("i really loved the story last night", who, valence=0.0, rng=rng)
            heard = 2 ** np.nanmedian(contour(samples, 16_000))
            assert heard == pytest.approx(who.pitch_hz, rel=0.2)

"""What is measured of a voice converter: perfect for a copy, and telling where it is not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from augment.measure_voice_conversion import Pair, figures
from tests.tiny_voices import voiced

LOW, HIGH = voiced(1.0, 110), voiced(1.0, 220)
COPY = Pair(source=LOW, reference=HIGH, known=LOW, truth=HIGH, result=LOW, seconds=0.5)


def by_pitch(sound: np.ndarray) -> np.ndarray:
    """A speaker's vector that knows nothing but which of the two sounds is nearer."""
    peak = np.abs(np.fft.rfft(sound)).argmax() / len(sound) * 16_000
    return np.array([1.0, 0.0]) if peak < 160 else np.array([0.0, 1.0])


def test_a_copy_keeps_everything_and_is_nobody_else() -> None:
    made = figures([COPY], by_pitch)
    assert made["pitch_correlation"] == pytest.approx(1)
    assert made["energy_correlation"] == pytest.approx(1)
    assert made["mel_distance"] == made["mel_distance_source"] > 0.05
    assert made["real_time_factor"] == 0.5
    assert (made["nearer_target"], made["truth_nearer_target"]) == (0, 1)


def test_the_truth_is_at_no_distance_and_nearer_to_the_target() -> None:
    made = figures([replace(COPY, result=HIGH)], by_pitch)
    assert made["mel_distance"] == 0
    assert made["nearer_target"] == 1


def test_another_manner_is_told() -> None:
    backwards = np.ascontiguousarray(LOW[::-1])
    fading = (LOW * np.linspace(1, 0.02, len(LOW))).astype(np.float32)
    assert figures([replace(COPY, result=backwards)], None)["pitch_correlation"] < 0
    assert figures([replace(COPY, result=fading)], None)["energy_correlation"] < 0.8


def test_speakers_are_left_out_without_a_measure() -> None:
    assert not any("similarity" in name for name in figures([COPY], None))

"""Another voice: the same length and intonation, another height and timbre, and nothing for silence."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines import pitch
from score.media.similarity import pearson
from score.perturbation.voice import OCTAVES, another_voice
from tests.score.clips import voice


def test_another_voice_keeps_intonation_and_length_and_is_another() -> None:
    source = voice(1)
    made = another_voice(source, 3)
    assert (made.shape, made.dtype) == (source.shape, np.float32)
    assert np.abs(made).max() <= np.abs(source).max() * (1 + 1e-5)
    before, after = np.log2(pitch.track(source)), np.log2(pitch.track(made))
    both = np.isfinite(before) & np.isfinite(after)
    assert pearson(before[both], after[both]) > 0.9
    assert 0.02 < abs(np.median(after[both] - before[both])) < OCTAVES + 0.02


def test_it_depends_on_its_seed_alone() -> None:
    source = voice(1)
    assert np.array_equal(another_voice(source, 3), another_voice(source, 3))
    assert not np.array_equal(another_voice(source, 3), another_voice(source, 4))


@pytest.mark.parametrize("length", [100, 8000])
def test_silence_stays_silent(length: int) -> None:
    silence = np.zeros(length, dtype=np.float32)
    assert np.array_equal(another_voice(silence, 0), silence)

"""References are trimmed to speech: silence and long pauses go, words stay, with and without noise."""

from __future__ import annotations

import numpy as np
import pytest

from augment.audio.silence import trimmed
from tests.tiny_voices import voiced


def pause(seconds: float) -> np.ndarray:
    return np.zeros(round(16_000 * seconds), np.float32)


@pytest.mark.parametrize("noise_db", [None, -60, -40, -25])
def test_silence_around_words_and_long_pauses_go(noise_db: float | None) -> None:
    first, second = voiced(1.0, 120), voiced(1.5, 140)
    sound = np.concatenate([pause(2), first, pause(1.2), second, pause(1)])
    if noise_db is not None:
        rng = np.random.default_rng(0)
        sound = sound + (0.05 * 10 ** (noise_db / 20) * rng.standard_normal(len(sound))).astype(np.float32)
    made = trimmed(sound)
    # 0.1 s stay before and after the words, and 0.2 s between them.
    assert len(made) == pytest.approx(16_000 * (2.5 + 0.4), abs=640)
    if noise_db is None:
        heard = made[np.abs(made) > 0]
        words = np.concatenate([first, second])
        assert np.array_equal(heard, words[np.abs(words) > 0])


def test_what_has_no_pause_stays_as_it_is() -> None:
    rng = np.random.default_rng(0)
    broken = voiced(1.0)
    broken[100] = np.nan
    noise = rng.standard_normal(16_001).astype(np.float32)
    for sound in (voiced(2.0), pause(1), noise, voiced(1)[:3], broken):
        assert np.array_equal(trimmed(sound), sound, equal_nan=True)


def test_short_pauses_stay() -> None:
    sound = np.concatenate([voiced(0.5), pause(0.15), voiced(0.5)])
    assert len(trimmed(sound)) == len(sound)
    longer = np.concatenate([voiced(0.5), pause(0.6), voiced(0.5)])
    assert len(trimmed(longer)) == pytest.approx(16_000 * 1.2, abs=320)

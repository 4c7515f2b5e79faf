"""Faults of an audio track: that their amounts are what they say."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.scorer.audio_faults import (
    BURST,
    FADE,
    PACKET,
    another_take,
    flattened,
    in_babble,
    in_noise,
    lost_packets,
    other_words,
    overdriven,
    reverberant,
)  # fmt: skip
from pipelines import pitch
from tests.score.clips import voice

OWN, OTHER = voice(0), voice(5, seconds=2.3)


def random() -> np.random.Generator:
    return np.random.default_rng(0)


def test_a_flattened_voice_keeps_its_height_and_loses_its_intonation_by_the_share() -> None:
    source = voice(1)
    before = np.log2(pitch.track(source))
    for share in (0.4, 1.0):
        after = np.log2(pitch.track(flattened(source, share, random())))
        assert np.nanmedian(after) == pytest.approx(np.nanmedian(before), abs=0.1)
        assert np.nanstd(after) == pytest.approx((1 - share) * np.nanstd(before), abs=0.03)


@pytest.mark.parametrize("made", [in_noise(OWN, 10, random()), in_babble(OWN, 10, random(), OTHER)])
def test_noise_and_babble_have_the_ratio_they_are_given(made: np.ndarray) -> None:
    added = made - OWN
    assert 10 * np.log10((OWN**2).mean() / (added**2).mean()) == pytest.approx(10, abs=0.1)


def test_babble_is_the_others_voice_and_begins_anywhere_in_it() -> None:
    first, second = (in_babble(OWN, 0, np.random.default_rng(seed), OTHER) - OWN for seed in (0, 1))
    for added in (first, second):
        match = np.fft.irfft(np.fft.rfft(added, 2**17) * np.conj(np.fft.rfft(OTHER, 2**17)))
        assert match.max() > 0.3 * np.linalg.norm(added) * np.linalg.norm(OTHER)
    assert not np.allclose(first, second)


def test_an_echo_dies_away_in_the_rooms_time_and_is_as_loud_as_the_direct_sound_at_a_second() -> None:
    click = np.zeros(40_000, dtype=np.float32)
    click[100] = 0.9
    made = reverberant(click, 1.0, random())
    direct, echo = made[100] ** 2, made[101:] ** 2
    assert not made[:100].any() or np.abs(made[:100]).max() < 1e-6
    assert echo.sum() / direct == pytest.approx(1, rel=0.1)
    early, middle = (10 * np.log10(echo[start : start + 2000].mean()) for start in (0, 8000))
    assert early - middle == pytest.approx(30, abs=1.5)
    assert np.square(made).sum() == pytest.approx(np.square(click).sum(), rel=0.01)


def test_overdriven_sound_keeps_its_peak() -> None:
    assert np.abs(overdriven(OWN, 12, random())).max() == pytest.approx(np.abs(OWN).max())


def test_a_lost_packet_repeats_the_last_one_ever_quieter_until_it_is_silent() -> None:
    ramp = np.linspace(0.1, 0.9, 60 * PACKET, dtype=np.float32)
    made = lost_packets(ramp, 0.5, random()).reshape(-1, PACKET)
    source = ramp.reshape(-1, PACKET)
    lost = (made != source).any(axis=1)
    assert lost.mean() == 0.5
    came = 0
    for at in range(60):
        if not lost[at]:
            came = at
        elif not lost[:at].all():
            gain = max(0.0, 1 - (at - came - 1) / BURST)
            assert made[at] == pytest.approx(gain * source[came], abs=1e-6)
        else:
            assert not made[at].any()


def test_a_splice_is_the_other_sound_in_one_piece_and_the_own_outside() -> None:
    made = another_take(OWN, 0.4, random(), OTHER)
    touched = np.flatnonzero(np.abs(made - OWN) > 1e-6)
    assert touched[-1] - touched[0] == pytest.approx(0.4 * len(OWN), abs=2 * FADE + 2)
    whole = another_take(OWN, 1.0, random(), OTHER)
    contour, theirs = (np.log2(pitch.track(each)) for each in (whole, OTHER))
    assert np.nanmedian(contour) == pytest.approx(np.nanmedian(theirs), abs=0.05)


def test_another_s_words_are_as_loud_as_the_own() -> None:
    made = other_words(OWN, 1.0, random(), 0.1 * OTHER)
    assert np.sqrt((made**2).mean()) == pytest.approx(np.sqrt((OWN**2).mean()), rel=0.2)

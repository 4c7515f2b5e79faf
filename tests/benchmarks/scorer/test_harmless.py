"""Harmless changes: what they move, and what they leave."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from benchmarks.scorer.codecs import in_aac, in_h265, in_opus
from benchmarks.scorer.harmless import (
    cropped,
    inverted,
    mirrored,
    padded,
    quieter,
    raised,
    shifted,
    zoomed,
)  # fmt: skip
from pipelines import pitch
from tests.benchmarks.scorer import tracks

OWN = tracks.own()
FRAMES, SAMPLES = OWN["video"], OWN["audio"]


def random(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_a_raised_voice_is_higher_by_the_factor_everywhere() -> None:
    steps = np.log2(pitch.track(raised(SAMPLES, 1.3, random()))) - np.log2(pitch.track(SAMPLES))
    assert np.nanmedian(steps) == pytest.approx(np.log2(1.3), abs=0.02)
    assert np.nanstd(steps) < 0.05


def test_sound_without_a_pitch_stays_as_it_is() -> None:
    silence = np.zeros(8000, dtype=np.float32)
    assert np.array_equal(raised(silence, 1.3, random()), silence)


def test_mirrored_and_inverted_twice_are_the_source() -> None:
    assert np.array_equal(mirrored(mirrored(FRAMES, 1, random()), 1, random()), FRAMES)
    assert np.array_equal(inverted(inverted(SAMPLES, 1, random()), 1, random()), SAMPLES)


def test_a_quieter_voice_is_so_by_the_decibels() -> None:
    assert quieter(SAMPLES, 6, random()) == pytest.approx(SAMPLES * 10**-0.3)


def test_frames_are_moved_by_whole_pixels_and_their_edges_repeated() -> None:
    noise = np.random.default_rng(1).integers(0, 256, (2, 48, 48, 3)).astype(np.uint8)
    moves = set()
    for seed in range(12):
        made = shifted(noise, 0.06, random(seed))  # 3 of 48 pixels
        down, right = (
            1 if np.array_equal(np.take(made, 0, axis), np.take(made, 2, axis)) else -1 for axis in (1, 2)
        )
        expected = np.roll(noise, (-3 if down < 0 else 3, -3 if right < 0 else 3), axis=(1, 2))
        assert np.array_equal(made[:, 3:-3, 3:-3], expected[:, 3:-3, 3:-3])
        moves.add((down, right))
    assert len(moves) == 4


def test_padding_is_black_around_the_smaller_frames() -> None:
    made = padded(FRAMES, 0.15, random())
    assert not made[:, :3].any()
    assert not made[:, :, -3:].any()
    inner = made[:, 4:-4, 4:-4]
    assert inner.mean() == pytest.approx(FRAMES.mean(), rel=0.05)


def test_a_crop_is_anywhere_and_a_zoom_begins_with_the_whole_frame_and_ends_in_its_middle() -> None:
    assert tracks.distance(cropped(FRAMES, 0.15, random(0)), cropped(FRAMES, 0.15, random(1))) > 1
    slope = np.broadcast_to((5 * np.arange(48))[None, None, :, None], (10, 48, 48, 3)).astype(np.uint8)
    made = zoomed(slope, 0.2, random()).astype(float)
    assert np.array_equal(made[0], slope[0])
    assert np.diff(made[-1], axis=1).mean() == pytest.approx(5 * 0.8, rel=0.01)
    assert made.mean(axis=(1, 2, 3)) == pytest.approx(np.full(10, slope.mean()), abs=0.5)


@pytest.mark.parametrize(("coded", "rates"), [(in_opus, (6, 24, 96)), (in_aac, (16, 48, 128))])
def test_coded_sound_is_in_step_with_its_source_and_better_at_a_higher_rate(
    coded: Callable[..., np.ndarray], rates: tuple[int, ...]
) -> None:
    correlations = [np.corrcoef(coded(SAMPLES, rate, random()), SAMPLES)[0, 1] for rate in rates]
    assert np.all(np.diff(correlations) > 0)
    assert correlations[-1] > 0.99


def test_coded_frames_keep_an_odd_size_and_are_better_at_a_lower_rate_factor() -> None:
    odd = FRAMES[:, :47, :45]
    distances = [tracks.distance(in_h265(odd, crf, random()), odd) for crf in (48, 36, 10)]
    assert np.all(np.diff(distances) < 0)
    assert in_h265(odd, 10, random()).shape == odd.shape

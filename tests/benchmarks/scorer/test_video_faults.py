"""Faults of a video: what each does where, beside what the table of corruptions promises."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.scorer.video_faults import (
    BLOCK,
    KEY_FRAMES,
    frozen_blocks,
    frozen_mouth,
    held,
    late,
    lost_packets,
    mouth_mask,
    smeared,
)  # fmt: skip
from pipelines.puppets.face import draw_clip, random_look
from tests.score.clips import face

SOURCE = face(0, np.random.default_rng(0).uniform(0, 1, 30))


def random() -> np.random.Generator:
    return np.random.default_rng(0)


def by_block(frames: np.ndarray) -> np.ndarray:
    """(F, rows, columns, pixels of a block) of frames whose sides are multiples of a block's."""
    count, height, width = frames.shape[:3]
    cut = frames.reshape(count, height // BLOCK, BLOCK, width // BLOCK, BLOCK, 3)
    return cut.transpose(0, 1, 3, 2, 4, 5).reshape(count, height // BLOCK, width // BLOCK, -1)


def test_a_late_picture_shows_each_frame_later() -> None:
    made = late(SOURCE, 3, random())
    assert np.array_equal(made[3:], SOURCE[:-3])
    assert np.array_equal(made[:3], SOURCE[[0, 0, 0]])


def test_held_frames_are_each_shown_as_often_and_the_last_ones_as_often_as_are_left() -> None:
    made = held(SOURCE, 4, random())
    assert np.array_equal(made, SOURCE[[at - at % 4 for at in range(30)]])


def test_a_smear_is_the_mean_around_each_frame_and_keeps_a_still_image() -> None:
    made = smeared(SOURCE, 3, random())
    mean = SOURCE[9:12].astype(float).mean(axis=0)
    assert np.abs(made[10] - mean).max() <= 0.5
    still = np.repeat(SOURCE[:1], 5, axis=0)
    assert np.array_equal(smeared(still, 9, random()), still)


@pytest.mark.parametrize("share", [0.1, 0.7])
def test_frozen_blocks_are_whole_ones_and_as_many_as_asked_for(share: float) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (6, 6 * BLOCK, 5 * BLOCK, 3)).astype(np.uint8)
    moves = (by_block(frozen_blocks(noise, share, random())) != by_block(noise)).mean(axis=-1)[1:]
    assert {*np.round(np.unique(moves))} == {0, 1}  # nearly all pixels of a block, or none
    assert (moves > 0.5).mean(axis=(1, 2)) == pytest.approx(share, abs=0.02)


def test_lost_blocks_stand_still_until_the_next_key_frame() -> None:
    noise = np.random.default_rng(1).integers(0, 256, (30, 64, 64, 3)).astype(np.uint8)
    made = lost_packets(noise, 0.5, random())
    assert np.array_equal(made[::KEY_FRAMES], noise[::KEY_FRAMES])
    still = (by_block(made)[1:] == by_block(made)[:-1]).all(axis=-1).mean(axis=(1, 2))
    assert {*still} == {0, 0.5}
    runs = [still[start : start + KEY_FRAMES - 1] for start in range(0, 24, KEY_FRAMES)]
    assert all(run[KEY_FRAMES // 3 :].all() for run in runs)
    whole = SOURCE[:1]  # nothing comes after a key frame
    assert np.array_equal(lost_packets(whole, 0.5, random()), whole)


@pytest.mark.parametrize("seed", range(4))
def test_the_mouth_of_a_puppet_is_found_where_it_is_drawn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mouth = rng.uniform(0, 1, 20)
    frames = draw_clip(random_look(rng, "train"), valence=0.3, mouth=mouth, rng=rng)
    # Its centre is drawn at (32, 44) of 64 x 64 pixels, give or take the motion of the head.
    mask = mouth_mask(frames)
    centre = [np.average(np.arange(64) + 0.5, weights=mask.sum(axis=axis)) for axis in (0, 1)]
    assert centre == pytest.approx([32, 46], abs=5)
    made = frozen_mouth(frames, 1.0, random())
    moves, still = (
        np.abs(np.diff(each[:, 42:48, 28:36].astype(float), axis=0)).mean() for each in (frames, made)
    )
    assert still < 0.2 * moves
    assert np.array_equal(made[:, :28], frames[:, :28])  # eyes and brows are as they were

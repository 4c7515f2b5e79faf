"""Drawn faces: what a look, a valence and a mouth do to the pixels."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.puppets import face
from pipelines.puppets.script import SpeakerPool

CASTS: tuple[SpeakerPool, ...] = ("studio", "train", "test")


def look(seed: int = 0, cast: SpeakerPool = "studio") -> face.Look:
    return face.random_look(np.random.default_rng(seed), cast)


def opened(who: face.Look, mouth: float) -> int:
    """Pixels that differ from the same face with a closed mouth."""
    closed, frame = (face.draw_face(who, valence=0, mouth=m).astype(int) for m in (0.0, mouth))
    return int((np.abs(frame - closed).sum(axis=-1) > 60).sum())


def lift(who: face.Look, valence: float) -> float:
    """Rows by which the ends of the mouth lie above its middle."""
    frame = face.draw_face(who, valence=valence, mouth=0.0).astype(int)
    half = round(who.mouth_width) - 2

    def row(columns: list[int]) -> float:
        drawn = np.abs(frame[39:51, columns] - who.skin).sum(axis=-1)
        return float((drawn * np.arange(12)[:, None]).sum() / drawn.sum())

    return row([31, 32]) - row([31 - half, 32 + half])


@pytest.mark.parametrize("size", [32, 64, 96])
def test_a_frame_is_an_rgb_picture_of_the_size(size: int) -> None:
    frame = face.draw_face(look(), valence=0, mouth=0.5, size=size)
    assert frame.dtype == np.uint8
    assert frame.shape == (size, size, 3)


def test_equal_seeds_give_equal_clips_and_other_seeds_other_clips() -> None:
    mouth = np.linspace(0, 1, 12)
    one, same, other = (
        face.draw_clip(look(), valence=0.2, mouth=mouth, rng=np.random.default_rng(seed))
        for seed in (3, 3, 4)
    )
    assert one.shape == (12, 64, 64, 3)
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


@pytest.mark.parametrize("seed", range(8))
def test_a_wider_mouth_changes_more_of_the_picture(seed: int) -> None:
    who = look(seed)
    shown = [opened(who, mouth) for mouth in (0.0, 0.35, 0.7, 1.0)]
    assert shown[0] < shown[1] < shown[2] < shown[3]


@pytest.mark.parametrize("seed", range(8))
def test_corners_of_the_mouth_rise_with_valence(seed: int) -> None:
    lifts = [lift(look(seed), valence) for valence in (-1.0, -0.3, 0.3, 1.0)]
    assert lifts[0] < lifts[1] < lifts[2] < lifts[3]


def test_valence_moves_brows_and_a_blink_closes_the_eyes() -> None:
    who = look(5)
    plain = face.draw_face(who, valence=0, mouth=0).astype(int)
    upper = slice(14, 33)
    glad, blinking = (
        face.draw_face(who, valence=v, mouth=0, blink=b).astype(int) for v, b in ((1, 0), (0, 1))
    )
    assert np.abs(glad - plain)[upper].mean() > 1
    assert blinking[24:31].mean() < plain[24:31].mean()
    np.testing.assert_array_equal(blinking[40:], plain[40:])


def test_the_head_moves_where_it_is_told() -> None:
    who = look(2)
    still, moved = (
        face.draw_face(who, valence=0, mouth=0, head=head).astype(int) for head in ((0, 0), (2, 1))
    )
    shifted = np.roll(still, (1, 2), axis=(0, 1))
    face_only = (slice(16, 50), slice(20, 46))
    assert np.abs(moved - shifted)[face_only].mean() < 1 < np.abs(moved - still)[face_only].mean()


def test_every_cast_has_all_skin_tones_and_its_own_looks() -> None:
    looks = {cast: [look(seed, cast) for seed in range(200)] for cast in CASTS}
    for cast in CASTS:
        tones = [one.tone for one in looks[cast]]
        assert min(tones) < 0.05
        assert max(tones) > 0.95
    train, test = ({(one.hair_style, one.hair) for one in looks[cast]} for cast in ("train", "test"))
    assert not train & test

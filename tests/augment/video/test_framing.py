"""Which frames and which part of them are edited, and that a variant is as long as its source."""

from __future__ import annotations

import numpy as np
import pytest

from augment.video.framing import Box, around_faces, chosen_frames, pasted, shown_frames


@pytest.mark.parametrize(("length", "fps", "wanted"), [(75, 25.0, 8.0), (30, 29.97, 12.5), (7, 25.0, 1.0)])
def test_frames_are_edited_at_the_rate_and_each_is_shown_until_the_next(
    length: int, fps: float, wanted: float
) -> None:
    chosen = chosen_frames(length, fps, wanted)
    assert chosen[0] == 0
    assert len(chosen) == np.ceil(length * wanted / fps)
    shown = shown_frames(chosen, length)
    assert len(shown) == length
    behind = np.arange(length) - chosen[shown]
    assert (behind >= 0).all()
    assert (behind / fps < 1 / wanted + 1e-9).all()


@pytest.mark.parametrize("wanted", [None, 25.0, 60.0])
def test_without_a_lower_rate_every_frame_is_edited(wanted: float | None) -> None:
    chosen = chosen_frames(10, 25.0, wanted)
    assert chosen.tolist() == shown_frames(chosen, 10).tolist() == list(range(10))


def test_a_box_holds_the_face_with_a_margin_and_stays_within_the_picture() -> None:
    face = np.array([[100.0, 80.0, 160.0, 160.0]])
    box = around_faces(np.concatenate([face + 1, face, face - 1, [[0, 0, 5, 5]]]), 320, 240)
    assert box.left < 95
    assert box.left + box.width > 165
    assert box.top < 75
    assert box.top + box.height > 200
    assert box.width % 2 == box.height % 2 == 0
    corner = around_faces(np.array([[-5.0, -5.0, 30.0, 30.0]]), 41, 33)
    assert (corner.left, corner.top) == (0, 0)
    assert corner.width <= 41
    assert corner.height <= 33


def test_a_pasted_part_fades_into_a_source_that_is_elsewhere_untouched() -> None:
    frame = np.full((40, 60, 3), 50, np.uint8)
    box = Box(10, 4, 32, 30)
    made = pasted(frame, np.full((30, 32, 3), 250, np.uint8), box)
    assert (frame == 50).all()
    outside = np.ones((40, 60), bool)
    outside[4:34, 10:42] = False
    assert (made[outside] == 50).all()
    assert (made[10:28, 16:36] == 250).all()
    assert 50 < made[4, 26, 0] < 150

"""Mirrored, zoomed and shifted pictures are compared where both show the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipelines import media
from score.media.alignment import aligned, found
from score.media.video import MAX_SIDE, VideoTrack, resized
from score.signals import activity, video
from tests.score.clips import FPS, restyled, talking


@pytest.fixture(scope="module")
def real(shared: Path) -> np.ndarray:
    """Frames of a real speaker, larger than they are analysed."""
    path = shared / "media" / "grid_corpus" / "Raw" / "speaker_03" / "lbax4n.mpg"
    return media.read_video(path, max_side=320).frames[:40]


@pytest.fixture(scope="module")
def drawn() -> np.ndarray:
    track = talking(1).video
    assert track is not None
    return track.frames


def track(frames: np.ndarray) -> VideoTrack:
    return VideoTrack(media.shrink(np.ascontiguousarray(frames), MAX_SIDE), FPS)


def cropped(frames: np.ndarray, cut: float, left: float, top: float) -> np.ndarray:
    """Frames without a share of each side, of which these shares are on the left and at the top."""
    height, width = frames.shape[1:3]
    y, x = round(top * cut * height), round(left * cut * width)
    kept = frames[:, y : y + round((1 - cut) * height), x : x + round((1 - cut) * width)]
    return resized(VideoTrack(kept, FPS), height, width).frames


def padded(frames: np.ndarray, share: float) -> np.ndarray:
    """Frames made smaller by a share of each side, in the middle of black ones."""
    height, width = frames.shape[1:3]
    small = resized(VideoTrack(frames, FPS), round((1 - share) * height), round((1 - share) * width)).frames
    made = np.zeros_like(frames)
    y, x = (height - small.shape[1]) // 2, (width - small.shape[2]) // 2
    made[:, y : y + small.shape[1], x : x + small.shape[2]] = small
    return made


CHANGES = {
    "mirrored": lambda frames: frames[:, :, ::-1],
    "a little cropped": lambda frames: cropped(frames, 0.05, 0.5, 0.5),
    "cropped at the right": lambda frames: cropped(frames, 0.15, 0.1, 0.8),
    "padded": lambda frames: padded(frames, 0.1),
    "mirrored and cropped": lambda frames: cropped(frames, 0.1, 0.3, 0.3)[:, :, ::-1],
    "mirrored and recoloured": lambda frames: restyled(frames)[:, :, ::-1],
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_real_picture_is_found_again_and_compared_there(real: np.ndarray, name: str) -> None:
    source, variant = track(real), track(CHANGES[name](real))
    assert found(variant, source).placements[0].mirrored == name.startswith("mirrored")
    before, after = (variant, source), aligned(variant, source)
    assert after[0].frames.shape == after[1].frames.shape
    for signal in (video.structure, video.motion, activity.activity):
        assert signal(*after) > 0.85, signal.__name__
    assert video.structure(*after) > video.structure(*before)


def test_the_place_is_what_the_crop_says(real: np.ndarray) -> None:
    placement = found(track(cropped(real, 0.1, 0.2, 0.7)), track(real)).placements[0]
    assert placement.zoom == pytest.approx(1 / 0.9, abs=0.01)
    assert placement.right == pytest.approx(-0.02 / 0.9, abs=0.01)
    assert placement.down == pytest.approx(-0.07 / 0.9, abs=0.01)


def nearer(frames: np.ndarray, share: float) -> np.ndarray:
    """A camera that comes nearer: the last frame is cropped by a share."""
    return np.concatenate(
        [
            cropped(frame[None], share * number / len(frames), 0.5, 0.5) if number else frame[None]
            for number, frame in enumerate(frames)
        ]
    )


@pytest.mark.parametrize("missing", [0, 3])
def test_a_camera_that_comes_nearer_is_followed(real: np.ndarray, missing: int) -> None:
    source, variant = track(real), track(nearer(real, 0.15)[: len(real) - missing])
    before, after = (variant, source), aligned(variant, source)
    assert after[0].frames.shape[1:] == after[1].frames.shape[1:]
    assert video.structure(*after) > 0.9
    assert video.motion(*after) > video.motion(*before) + 0.2


@pytest.mark.parametrize("change", [lambda frames: frames, restyled], ids=["a copy", "a style"])
def test_what_did_not_move_is_left_as_it_is(drawn: np.ndarray, change: object) -> None:
    source, variant = track(drawn), track(change(drawn))  # type: ignore[operator]
    assert aligned(variant, source) == (variant, source)


def test_another_picture_is_not_moved_until_it_fits(real: np.ndarray, drawn: np.ndarray) -> None:
    source = track(real)
    other = resized(track(drawn), *source.frames.shape[1:3])
    assert video.structure(*aligned(other, source)) < 0.5

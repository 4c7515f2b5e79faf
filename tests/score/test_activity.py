"""The signal of what moves where and when."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipelines import media
from score.media.video import MAX_SIDE, VideoTrack
from score.signals.activity import activity
from tests.score.clips import restyled, talking

FPS = 25.0


@pytest.fixture(scope="module")
def real(shared: Path) -> np.ndarray:
    path = shared / "media" / "grid_corpus" / "Raw" / "speaker_03" / "lbax4n.mpg"
    return media.read_video(path, max_side=MAX_SIDE).frames


def mouth_still(frames: np.ndarray) -> np.ndarray:
    """The liveliest place of the lower half stands still."""
    lower = np.abs(np.diff(frames.astype(int), axis=0)).mean(axis=(0, 3))
    lower[: len(lower) // 2] = 0
    y, x = np.unravel_index(lower.argmax(), lower.shape)
    made = frames.copy()
    made[:, y - 10 : y + 10, x - 16 : x + 16] = frames[0, y - 10 : y + 10, x - 16 : x + 16]
    return made


def held(frames: np.ndarray, times: int) -> np.ndarray:
    return frames[np.arange(len(frames)) // times * times]


def smeared(frames: np.ndarray, over: int) -> np.ndarray:
    means = [frames[max(0, at - over + 1) : at + 1].mean(axis=0) for at in range(len(frames))]
    return np.stack(means).astype(np.uint8)


RUINED = {
    "each frame twice": lambda frames: held(frames, 2),
    "each frame eight times": lambda frames: held(frames, 8),
    "smear": lambda frames: smeared(frames, 9),
    "the mouth stands still": mouth_still,
}
HARMLESS = {
    "other colours": restyled,
    "noise": lambda frames: np.clip(
        frames + np.random.default_rng(0).normal(0, 3, frames.shape), 0, 255
    ).astype(np.uint8),
    "encoded again": lambda frames: media.read_video(media.encode_video(frames, FPS)).frames,
}


@pytest.mark.parametrize("name", RUINED)
def test_what_ruins_motion_is_seen(real: np.ndarray, name: str) -> None:
    assert activity(VideoTrack(RUINED[name](real), FPS), VideoTrack(real, FPS)) < 0.6


@pytest.mark.parametrize("name", HARMLESS)
def test_what_leaves_motion_is_not(real: np.ndarray, name: str) -> None:
    assert activity(VideoTrack(HARMLESS[name](real), FPS), VideoTrack(real, FPS)) > 0.85


def test_a_picture_that_stands_still_has_no_activity() -> None:
    still = VideoTrack(np.full((10, 32, 32, 3), 90, dtype=np.uint8), FPS)
    moving = talking(1).video
    assert moving is not None
    assert np.isnan(activity(moving, still))
    assert activity(VideoTrack(moving.frames[:1].repeat(len(moving), 0), moving.fps), moving) < 0.01


@pytest.mark.parametrize(("gone", "least", "most"), [("large", 0.0, 0.1), ("small", 0.35, 0.6)])
def test_a_motion_that_is_gone_counts_by_its_share(gone: str, least: float, most: float) -> None:
    def blinking(**amplitudes: int) -> VideoTrack:
        frames = np.full((10, 64, 64, 3), 60, dtype=np.uint8)
        frames[:, 56:] = 255  # most of the clip's contrast, which stays
        frames[::2, 8:20, 8:20] += np.uint8(amplitudes["large"])
        frames[::2, 40:52, 40:52] += np.uint8(amplitudes["small"])
        return VideoTrack(frames, FPS)

    source = blinking(large=120, small=95)
    variant = blinking(**{"large": 120, "small": 95} | {gone: 0})
    assert least <= activity(variant, source) <= most

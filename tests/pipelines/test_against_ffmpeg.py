"""Two hundred random clips are read as ffmpeg's command line reads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipelines.media import open_clip
from tests.pipelines import ffmpeg_clips as ffmpeg


@pytest.mark.parametrize("seed", range(200))
def test_frames_and_samples_are_those_of_ffmpeg(tmp_path: Path, seed: int) -> None:
    case = ffmpeg.draw(np.random.default_rng(seed))
    path = ffmpeg.write(case, tmp_path)
    clip = open_clip(path)
    video, audio = clip.video(), clip.audio()
    frames = np.stack(list(video.frames))
    shown, heard = ffmpeg.shown_and_heard(path, video.fps, video.width, video.height)
    assert video.fps == pytest.approx(float(case.rate)), case
    assert abs(len(frames) - len(shown)) <= 1, case
    assert video.width / video.height == pytest.approx(ffmpeg.shape(path), rel=0.02), case
    both = min(len(frames), len(shown))
    unlike = np.abs(frames[:both].astype(int) - shown[:both]).mean(axis=(1, 2, 3))
    assert np.median(unlike) < 6, case
    assert_close(
        ffmpeg.onsets(ffmpeg.white(frames), video.fps), ffmpeg.onsets(ffmpeg.white(shown), video.fps), case
    )
    assert_close(ffmpeg.onsets(ffmpeg.sounding(audio), 100), ffmpeg.onsets(ffmpeg.sounding(heard), 100), case)
    assert abs(len(audio) - len(heard)) <= 0.04 * ffmpeg.SAMPLING_RATE, case


def assert_close(onsets: list[float], expected: list[float], case: ffmpeg.Case) -> None:
    """Within 40 ms, and a ten-thousandth for rounding."""
    assert len(onsets) == len(expected) >= 1, (case, onsets, expected)
    assert np.abs(np.subtract(onsets, expected)).max() <= 0.0401, (case, onsets, expected)

"""A constant delay is told in seconds, and undone for the signals that compare moment by moment."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipelines.media import read_audio, read_video
from score.media.audio import SAMPLING_RATE, AudioTrack
from score.media.clip import Clip
from score.media.delay import same_moments_of_audio, same_moments_of_video
from score.media.video import MAX_SIDE, VideoTrack
from score.signals.catalogue import measure
from score.signals.timing import length_of_audio, length_of_video
from tests.score.clips import talking

FPS = 25.0
CLIP = "media/grid_corpus/Raw/speaker_03/lbax4n.mpg"
BY_MOMENT = ("video_motion", "video_structure", "video_activity", "audio_articulation", "audio_energy")


@pytest.fixture(scope="module")
def source(shared: Path) -> Clip:
    """Three seconds of a real speaker."""
    video = VideoTrack(read_video(shared / CLIP, max_side=MAX_SIDE).frames, FPS)
    return Clip(video, AudioTrack(read_audio(shared / CLIP)))


def later(source: Clip, frames: int, samples: int) -> Clip:
    """The clip with its tracks late by a number of frames and of samples; early by them if negative."""
    assert source.video is not None
    assert source.audio is not None
    count = len(source.video)
    shown = np.clip(np.arange(count) - frames, 0, count - 1)
    silence = np.zeros(abs(samples), dtype=np.float32)
    own = source.audio.samples
    heard = np.r_[silence, own[:-samples]] if samples > 0 else np.r_[own[-samples:], silence]
    return Clip(VideoTrack(source.video.frames[shown], FPS), AudioTrack(heard))


@pytest.mark.parametrize(("frames", "samples"), [(1, -320), (-1, 640), (6, 3200), (-8, -4800)])
def test_a_delay_is_told_and_costs_nothing_else_within_a_track(
    source: Clip, frames: int, samples: int
) -> None:
    measured = measure(later(source, frames, samples), source, ("video", "audio", "cross"))
    assert measured["video_delay"] == pytest.approx(-abs(frames) / FPS)
    assert measured["audio_delay"] == pytest.approx(-abs(samples) / SAMPLING_RATE)
    for name in BY_MOMENT:
        assert measured[name] > 0.93, name
    assert measured["video_length"] == measured["audio_length"] == 0
    assert measured["cross_sync"] != pytest.approx(0, abs=1e-3)


def test_a_delay_of_a_second_stays(source: Clip) -> None:
    measured = measure(later(source, 25, 16000), source, ("video", "audio"))
    for name in ("video_motion", "video_activity", "audio_articulation", "audio_energy"):
        assert measured[name] < 0.8, name


def test_another_clip_is_not_taken_for_a_late_one(source: Clip, shared: Path) -> None:
    path = shared / "media" / "grid_corpus" / "Raw" / "speaker_01"
    other = AudioTrack(read_audio(next(path.iterdir())))
    assert source.audio is not None
    assert same_moments_of_audio(other, source.audio) == (other, source.audio)


def test_tracks_that_are_not_late_are_compared_as_they_are(source: Clip) -> None:
    noise = np.random.default_rng(0)
    assert source.video is not None
    assert source.audio is not None
    frames = source.video.frames + noise.normal(0, 3, source.video.frames.shape)
    video = VideoTrack(np.clip(frames, 0, 255).astype(np.uint8), FPS)
    audio = AudioTrack((0.5 * source.audio.samples).astype(np.float32))
    assert same_moments_of_video(video, source.video) == (video, source.video)
    assert same_moments_of_audio(audio, source.audio) == (audio, source.audio)


def test_a_very_short_clip_is_compared_as_it_is() -> None:
    clip = talking(1)
    assert clip.video is not None
    assert clip.audio is not None
    video, audio = VideoTrack(clip.video.frames[:1], FPS), AudioTrack(clip.audio.samples[:200])
    assert same_moments_of_video(video, clip.video) == (video, clip.video)
    assert same_moments_of_audio(audio, clip.audio) == (audio, clip.audio)


def test_the_length_that_is_missing_is_told_in_seconds() -> None:
    source = VideoTrack(np.zeros((50, 8, 8, 3), dtype=np.uint8), FPS)
    assert length_of_video(VideoTrack(source.frames[:40], FPS), source) == pytest.approx(-0.4)
    assert length_of_video(source, source) == 0
    sound = AudioTrack(np.ones(16000, dtype=np.float32))
    assert length_of_audio(AudioTrack(sound.samples[:-1600]), sound) == pytest.approx(-0.1)

"""Signals of when a track begins and how long it lasts."""

from __future__ import annotations

from score.media.audio import SAMPLING_RATE, AudioTrack
from score.media.delay import audio_delay, video_delay
from score.media.video import VideoTrack


def length_of_video(variant: VideoTrack, source: VideoTrack) -> float:
    """Minus the difference of the durations in s, in (-inf, 0]; 0 if unchanged."""
    return -abs(len(variant) / variant.fps - len(source) / source.fps)


def length_of_audio(variant: AudioTrack, source: AudioTrack) -> float:
    """Minus the difference of the durations in s, in (-inf, 0]; 0 if unchanged."""
    return -abs(len(variant.samples) - len(source.samples)) / SAMPLING_RATE


def delay_of_video(variant: VideoTrack, source: VideoTrack) -> float:
    """Minus the time by which the variant is late or early, in s, in [-`delay.LONGEST_S`, 0]."""
    return -abs(video_delay(variant, source)) / source.fps


def delay_of_audio(variant: AudioTrack, source: AudioTrack) -> float:
    """Minus the time by which the variant is late or early, in s, in [-`delay.LONGEST_S`, 0]."""
    return -abs(audio_delay(variant, source)) / SAMPLING_RATE

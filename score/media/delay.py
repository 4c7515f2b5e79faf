"""A constant delay of a variant's track relative to its source's, undone before the two are compared.

What is late by a moment is otherwise wrong at every moment. It is undone for the signals of one track, which
compare moment by moment; how long it is, and how the tracks go together, are signals of their own.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from score.media.audio import FRAME_RATE, HOP, AudioTrack
from score.media.similarity import concordance
from score.media.video import Pixels, VideoTrack

LONGEST_S = 0.5
"""The longest delay that is looked for."""
LEFT_OVER = 0.6
"""A delay is undone if it leaves at most this share of what the concordance lacks to 1 without it."""
LEAST_SHARED = 0.5
"""Share of the shorter track that both must have."""


def video_delay(variant: VideoTrack, source: VideoTrack) -> int:
    """By how many frames a video is behind another; negative if it is ahead."""
    return _delay(variant.moving, source.moving, round(LONGEST_S * source.fps))


def audio_delay(variant: AudioTrack, source: AudioTrack) -> int:
    """By how many samples a sound is behind another; negative if it is ahead."""
    return HOP * _delay(variant.energy, source.energy, round(LONGEST_S * FRAME_RATE))


def same_moments_of_video(variant: VideoTrack, source: VideoTrack) -> tuple[VideoTrack, VideoTrack]:
    """The parts of two videos that show the same moments; the videos themselves if neither is late."""
    delay = video_delay(variant, source)
    return (_cut(variant, _from(delay)), _cut(source, _from(-delay))) if delay else (variant, source)


def same_moments_of_audio(variant: AudioTrack, source: AudioTrack) -> tuple[AudioTrack, AudioTrack]:
    """The parts of two sounds of the same moments; the sounds themselves if neither is late."""
    delay = audio_delay(variant, source)
    if not delay:
        return variant, source
    variant = replace(variant, samples=variant.samples[_from(delay)])
    return variant, replace(source, samples=source.samples[_from(-delay)])


def _delay(variant: np.ndarray, source: np.ndarray, longest: int) -> int:
    """By how many moments a curve (T, ...) is behind another; 0 unless that is clearly better."""
    length = min(len(variant), len(source))
    if length == 0:
        return 0
    variant, source = variant[:length], source[:length]
    longest = min(longest, int((1 - LEAST_SHARED) * length))
    lacks = {
        delay: 1 - concordance(variant[_from(delay)], source[_from(-delay)])
        for delay in range(-longest, longest + 1)
    }
    best = min(lacks, key=lambda delay: (lacks[delay], abs(delay)))
    return best if lacks[best] <= LEFT_OVER * lacks[0] else 0


def _from(delay: int) -> slice:
    """What is left of a track that is late by a delay; of one that is early, if it is negative."""
    return slice(delay, None) if delay >= 0 else slice(delay)


def _cut(video: VideoTrack, part: slice) -> VideoTrack:
    pixels = video.pixels and Pixels(video.pixels.frames[part], video.pixels.fps)
    return replace(video, frames=video.frames[part], pixels=pixels)

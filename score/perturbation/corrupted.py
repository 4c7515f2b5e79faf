"""A ruined clip, for calibration: what a bad variant looks and sounds like. Choice and strength are ours."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from score.media.clip import Clip
from score.media.video import Pixels, VideoTrack, at_size

SCALE = 4
"""Factor by which frames are shrunk and enlarged again."""
SNR_DB = 10.0
"""Signal-to-noise ratio of the audio."""


def corrupted(clip: Clip, seed: int) -> Clip:
    """The clip with blurred and shuffled frames, and with white noise in its audio."""
    video, audio = clip.video, clip.audio
    if video is not None:
        pixels = video.pixels and Pixels(_blurred_and_shuffled(video.pixels.frames, seed), video.fps)
        video = VideoTrack(_blurred_and_shuffled(video.frames, seed), video.fps, pixels)
    if audio is not None:
        level = float(np.sqrt((audio.samples * audio.samples).mean())) / 10 ** (SNR_DB / 20)
        noise = np.random.default_rng(seed).normal(0, level, len(audio.samples))
        audio = replace(audio, samples=np.clip(audio.samples + noise, -1, 1).astype(np.float32))
    return Clip(video, audio)


def _blurred_and_shuffled(frames: np.ndarray, seed: int) -> np.ndarray:
    height, width = frames.shape[1:3]
    small = at_size(frames, max(1, height // SCALE), max(1, width // SCALE))
    return at_size(small, height, width)[np.random.default_rng(seed).permutation(len(frames))]

"""Small talking heads for tests, drawn and sung by formulas, and ways to spoil them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.media import encode_audio, encode_video
from pipelines.row import Row, media, new_row, variant_id
from pipelines.store import commit
from score.media.audio import SAMPLING_RATE, AudioTrack
from score.media.clip import Clip
from score.media.video import VideoTrack, resized

FPS = 12.5
SIZE = 48
SECONDS = 1.28
"""How long the rows of a store last."""
SETTINGS: dict[str, Any] = {
    "stage": "test", "title": "A store", "description": "For a test.", "command": "pytest",
    "versions": {}, "config": {}, "inputs": None,
}  # fmt: skip


def voice(seed: int, *, seconds: float = 2.0, factor: float = 1.0, flat: bool = False) -> np.ndarray:
    """Syllables with a moving pitch: float32 (samples,).

    Args:
        seed: Of the syllables' times and of the contour.
        seconds: How long it lasts.
        factor: Of the pitch.
        flat: Whether the pitch stands still.
    """
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * SAMPLING_RATE)) / SAMPLING_RATE
    bends = rng.normal(0, 0.15, 4) * (not flat)
    octaves = sum(bend * np.sin(2 * np.pi * (n + 1) * 0.6 * time + n) for n, bend in enumerate(bends))
    phase = 2 * np.pi * np.cumsum(factor * 150.0 * 2.0**octaves) / SAMPLING_RATE
    tone = sum(np.sin(harmonic * phase) / harmonic for harmonic in range(1, 9))
    beats = rng.uniform(0, 1, 12)
    envelope = np.interp(time, np.linspace(0, seconds, 12), beats) ** 2 + 0.02
    return (0.2 * tone * envelope).astype(np.float32)


def face(seed: int, mouth: np.ndarray, *, smile: float = 0.0) -> np.ndarray:
    """A head with eyes, hair and a mouth that opens: uint8 (F, SIZE, SIZE, 3).

    Args:
        seed: Of colours and of how the head sways.
        mouth: How far it is open, (F,), in [0, 1].
        smile: In [-1, 1]; lifts the mouth's corners.
    """
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:SIZE, 0:SIZE] / SIZE
    colours = rng.uniform(40, 220, (3, 3))
    sway = 0.02 * np.sin(np.arange(len(mouth)) * rng.uniform(0.3, 0.6) + rng.uniform(0, 6))
    frames = np.empty((len(mouth), SIZE, SIZE, 3))
    for index, opening in enumerate(mouth):
        at = x - 0.5 - sway[index]
        frames[index] = colours[0] * (0.7 + 0.3 * y[..., None])
        frames[index][(at / 0.3) ** 2 + ((y - 0.55) / 0.38) ** 2 < 1] = colours[1]
        # It falls lower on one side: what a face has that its mirror image has not.
        fringe = y < 0.3 + 0.1 * (at > 0.1)
        frames[index][((at / 0.32) ** 2 + ((y - 0.5) / 0.42) ** 2 < 1) & fringe] = colours[2]
        for side in (-0.12, 0.12):
            frames[index][((at - side) / 0.05) ** 2 + ((y - 0.45) / 0.03) ** 2 < 1] = 20
        lips = 0.75 - smile * 4 * at**2
        frames[index][(np.abs(at) < 0.13) & (np.abs(y - lips) < 0.015 + 0.08 * opening)] = 25
    return frames.astype(np.uint8)


def talking(seed: int, *, smile: float = 0.0, seconds: float = 2.0, factor: float = 1.0) -> Clip:
    """A head whose mouth opens with what it says."""
    sound = AudioTrack(voice(seed, seconds=seconds, factor=factor))
    energy = sound.energy_at(FPS, round(seconds * FPS))
    return Clip(VideoTrack(face(seed, 1 + energy / 50, smile=smile), FPS), sound)


def with_frames(clip: Clip, frames: np.ndarray) -> Clip:
    """The clip with other frames."""
    return Clip(VideoTrack(frames, FPS), clip.audio)


def noisy(frames: np.ndarray, spread: float) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 1, frames.shape)
    return np.clip(frames + spread * noise, 0, 255).astype(np.uint8)


def blurred(frames: np.ndarray, factor: float) -> np.ndarray:
    height, width = frames.shape[1:3]
    small = resized(VideoTrack(frames, FPS), round(height / factor), round(width / factor))
    return resized(small, height, width).frames


def shuffled(frames: np.ndarray, share: float) -> np.ndarray:
    """A share of the frames put elsewhere."""
    rng = np.random.default_rng(0)
    moved = rng.permutation(len(frames))[: round(share * len(frames))]
    order = np.arange(len(frames))
    order[np.sort(moved)] = moved
    return frames[order]


def restyled(frames: np.ndarray) -> np.ndarray:
    """Other colours and another contrast, the same drawing."""
    return (255 * (0.15 + 0.7 * (frames[..., [2, 0, 1]] / 255) ** 0.8)).astype(np.uint8)


def with_noise(samples: np.ndarray, ratio_db: float) -> np.ndarray:
    """The sound in white noise at a signal-to-noise ratio."""
    noise = np.random.default_rng(0).normal(0, 1, len(samples))
    scale = np.sqrt((samples**2).mean()) / 10 ** (ratio_db / 20)
    return (samples + scale * noise).astype(np.float32)


def original(seed: int, *, split: str = "train", groups: int = 6) -> Row:
    """A row whose smile, and whose pitch, say what its label is."""
    label = float(np.random.default_rng(seed).uniform(-1, 1))
    clip = talking(seed, smile=label, factor=1 + 0.3 * label, seconds=SECONDS)
    assert clip.video is not None
    assert clip.audio is not None
    row_id = f"toy/{split}{seed % groups}/{seed:03d}"
    return new_row(
        id=row_id, source_id=row_id, kind="original", split=split, group=f"{split}{seed % groups}",
        video=media(encode_video(clip.video.frames, FPS)), audio=media(encode_audio(clip.audio.samples)),
        text="words", label=3 * label, corpus="toy", scale="mosi", language="en", duration_s=SECONDS, fps=FPS,
        generator=json.dumps({"seed": seed}),
    )  # fmt: skip


def variant(
    row: Row, kind: str, number: int, *, video: bytes | None = None, audio: bytes | None = None
) -> Row:
    """A variant of a row with the tracks that are given."""
    tracks = {name: media(made) for name, made in (("video", video), ("audio", audio)) if made is not None}
    generator = json.dumps({"made": [kind, number]})
    return row | tracks | {"id": variant_id(row["id"], kind, number), "kind": kind, "generator": generator}


def write_store(directory: Path, rows: list[Row], *, generation: str = "0" * 12) -> Path:
    commit(directory, rows, generation=generation, settings=SETTINGS)
    return directory


# By signal, the least and the greatest value.
RANGES = {
    "video_flicker": (0, 1),
    "video_structure": (-1, 1),
    "video_motion": (-1, 1),
    "video_activity": (0, 1),
    "video_length": (float("-inf"), 0),
    "video_delay": (-0.5, 0),
    "video_sharpness": (0, 1),
    "video_agreement": (float("-inf"), 0),
    "video_novelty": (0, 1),
    "audio_pitch": (-1, 1),
    "audio_energy": (-1, 1),
    "audio_articulation": (-1, 1),
    "audio_dropouts": (-20, 0),
    "audio_length": (float("-inf"), 0),
    "audio_delay": (-0.5, 0),
    "audio_clarity": (float("-inf"), 0),
    "audio_agreement": (float("-inf"), 0),
    "audio_novelty": (0, float("inf")),
    "cross_sync": (-2, 2),
    "video_content": (-1, 1),
    "video_face": (0, 1),
    "video_landmarks": (-1, 1),
    "video_mouth": (-1, 1),
    "video_expression": (0, 1),
    "audio_words": (-1, 0),
    "audio_quality": (-4, 0),
    "audio_emotion": (0, 1),
    "audio_speaker": (0, 2),
    "cross_label": (float("-inf"), 0),
}

"""Training data of the included thinker, which learns to perceive puppets, not to rate them.

The studio's cast speaks; faces, voices and sentences are shuffled against each other. The questions are how
high, lively, loud and fast a voice is, how high the corners of a mouth are and how far it opens, and which
other word of judgement would fit a sentence. Sentiment is never asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines import media, pitch, row
from pipelines.puppets import corpus, script, voice
from pipelines.running.workers import worker_pool

if TYPE_CHECKING:
    from collections.abc import Iterator

FRAMES = 8
VIDEO_FPS = 4.0
VOICE = ("pitch", "melody", "loudness", "rate")
FACE = ("corners", "opening")
LEVELS = ("lowest", "low", "middle", "high", "highest")
OTHER_WORD = "word"


@dataclass(frozen=True, kw_only=True)
class Studio:
    """Recordings of a cast: N clips with measures of their faces and voices."""

    frames: np.ndarray
    """uint8 (N, 8, 64, 64, 3); clips with fewer frames are filled with zeros."""
    lengths: np.ndarray
    """Frames of each, (N,)."""
    fps: np.ndarray
    """Rate of each, (N,)."""
    samples: np.ndarray
    """int16 (N, samples at 16 kHz), silence behind the end."""
    sound_lengths: np.ndarray
    """Samples of each, (N,)."""
    measures: np.ndarray
    """float32 (N, 6), in the order of `VOICE` and `FACE`."""

    def __len__(self) -> int:
        return len(self.frames)

    def levels(self, edges: np.ndarray) -> np.ndarray:
        """The measures as indices into `LEVELS`, (N, 6), given edges (4, 6)."""
        return (self.measures[None] > edges[:, None]).sum(axis=0)

    def edges(self) -> np.ndarray:
        """Quintiles of each measure over these clips, (4, 6)."""
        return np.quantile(self.measures, [0.2, 0.4, 0.6, 0.8], axis=0)


def record(path: Path, *, cast: script.SpeakerPool, clips: int, seed: int, workers: int = 2) -> Studio:
    """Record a pool of speakers to a file; an existing file is read."""
    if not path.exists():
        with worker_pool(workers) as pool:
            takes = list(pool.map(_take, [(cast, seed, n) for n in range(clips)], chunksize=16))
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, **_stack(takes))
    with np.load(path) as arrays:
        return Studio(**arrays)


def question(asked: list[str]) -> str:
    """A question for some attributes."""
    return "Tell " + ", ".join(asked) + "."


def texts(rng: np.random.Generator, count: int) -> Iterator[str]:
    """Sentences and questions to train a tokenizer on."""
    for _ in range(count):
        yield f"The speaker says: {script.sentence(rng.uniform(-1, 1), rng, 'studio')}"
        yield question([name for name in (*VOICE, *FACE) if rng.random() < 0.5] + [OTHER_WORD])
        yield " ".join(["", *LEVELS])


def _take(arguments: tuple[script.SpeakerPool, int, int]) -> dict[str, Any]:
    """One clip, its frames as a model gets them: after a codec, at few frames a second."""
    cast, seed, number = arguments
    rng = np.random.default_rng(row.row_seed(seed, f"{cast}/{number}"))
    who = corpus.person(f"{cast}{number // 3}", cast, seed)
    carried = corpus.Valences(*map(float, rng.uniform(-1, 1, size=3)))
    clip = corpus.make_clip(who, carried, rng)
    fps = min(VIDEO_FPS, FRAMES * corpus.FPS / len(clip.frames))
    frames = media.read_video(media.encode_video(clip.frames, corpus.FPS), fps=fps).frames[:FRAMES]
    mouth = voice.mouth_opening(clip.samples, corpus.FPS, corpus.SAMPLING_RATE)
    return {
        "frames": frames,
        "fps": np.float32(fps),
        "samples": (clip.samples * 32767).astype(np.int16),
        "measures": np.array([*_voice_measures(clip), carried.video, mouth.mean()], dtype=np.float32),
    }


def _voice_measures(clip: corpus.Clip) -> list[float]:
    pitch_hz = pitch.track(clip.samples)
    semitones = 12 * np.log2(pitch_hz[np.isfinite(pitch_hz)] / 100)
    loudness_db = 10 * np.log10((clip.samples**2).mean() + 1e-9)
    letters = len(clip.text.replace(" ", ""))
    height, movement = (semitones.mean(), semitones.std()) if len(semitones) else (0.0, 0.0)
    return [height, movement, loudness_db, letters / len(clip.samples) * corpus.SAMPLING_RATE]


def _stack(takes: list[dict[str, Any]]) -> dict[str, Any]:
    frames, samples, fps, measures = (
        [take[name] for take in takes] for name in ("frames", "samples", "fps", "measures")
    )
    longest = max(map(len, samples))
    return {
        "frames": np.stack([_fill(one, FRAMES) for one in frames]),
        "lengths": np.array([*map(len, frames)]),
        "fps": np.stack(fps),
        "samples": np.stack([_fill(one, longest) for one in samples]),
        "sound_lengths": np.array([*map(len, samples)]),
        "measures": np.stack(measures),
    }


def _fill(values: np.ndarray, length: int) -> np.ndarray:
    return np.concatenate([values, np.zeros((length - len(values), *values.shape[1:]), values.dtype)])

"""Test data for voice conversion: pairs of source audio and target voice.

They are puppets of the test speakers, on which no included checkpoint was trained, or recordings in a
folder. A pair also has other recordings of both voices, for speaker similarity.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from augment.audio.variants import SAMPLING_RATE
from pipelines.errors import UsageError
from pipelines.row import row_seed

MAX_RECORDINGS = 5
"""Most recordings of a voice for speaker similarity."""
UNLIKE_OCTAVES = 0.35
"""Smallest distance of the mean pitches of unlike puppet voices; the test speakers have three kinds."""
Voices = Literal["any", "unlike"]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One conversion and its expected result; all audio is float32 at 16 kHz, (samples,)."""

    source: np.ndarray
    reference: np.ndarray
    """The target voice, with other words."""
    source_voice: tuple[np.ndarray, ...]
    """Other recordings of the source's voice."""
    target_voice: tuple[np.ndarray, ...]
    """Other recordings of the target voice."""
    truth: np.ndarray | None = None
    """The source's sentence in the target voice; known for puppets only."""
    text: str | None = None
    """English transcript of the source; None if it is not known."""


@dataclass(frozen=True, kw_only=True)
class Converted(Pair):
    """A pair and the result of its conversion."""

    result: np.ndarray
    seconds: float
    """Time of the conversion."""


def convert(converter: Any, pair: Pair, *, seed: int, **settings: float) -> Converted:
    """Convert a pair with a `VoiceConversionPipeline`, called with these settings."""
    before = time.perf_counter()
    result = converter(
        pair.source,
        pair.reference,
        sampling_rate=SAMPLING_RATE,
        **settings,
        generator=torch.Generator().manual_seed(seed),
    )
    return Converted(**vars(pair), result=result, seconds=time.perf_counter() - before)


def of_puppets(count: int, seed: int, voices: Voices) -> Iterator[Pair]:
    """Pairs of puppet test speakers, each of two new voices and a new sentence."""
    from pipelines.puppets.script import sentence
    from pipelines.puppets.voice import random_voice, render

    for number in range(count):
        rng = np.random.default_rng(row_seed(seed, f"pair {number}"))
        one, other = random_voice(rng, "test"), random_voice(rng, "test")
        while voices == "unlike" and abs(np.log2(one.pitch_hz / other.pitch_hz)) < UNLIKE_OCTAVES:
            other = random_voice(rng, "test")
        valence, text, pair_seed = rng.uniform(-1, 1), sentence(0.0, rng, "test"), int(rng.integers(2**32))
        # With the same pace and seed, both say each sound at the same time.
        source, truth = (
            render(text, replace(voice, pace=1.0), valence=valence, rng=np.random.default_rng(pair_seed))
            for voice in (one, other)
        )
        reference, *others = (
            render(sentence(0.0, rng, "test"), voice, valence=rng.uniform(-1, 1), rng=rng)
            for voice in (*[other] * (1 + MAX_RECORDINGS), *[one] * MAX_RECORDINGS)
        )
        yield Pair(
            source=source,
            reference=reference,
            source_voice=tuple(others[MAX_RECORDINGS:]),
            target_voice=tuple(others[:MAX_RECORDINGS]),
            truth=truth,
            text=text,
        )


def of_folder(folder: Path, count: int, seed: int) -> Iterator[Pair]:
    """Pairs of recordings in a folder of speech, as `augment.audio.voices` takes one.

    A voice without another recording is compared with the source or reference itself.

    Raises:
        UsageError: If the folder has no recording, or only one speaker.
        MediaError: If a recording cannot be read.
    """
    from augment.audio import voice_sources
    from augment.audio.silence import trimmed
    from pipelines.media import read_audio

    by_speaker: dict[str, list[np.ndarray]] = defaultdict(list)
    for clip in voice_sources.of_folder(folder, "--speech", "a folder of recordings"):
        assert not isinstance(clip.at, int)
        by_speaker[clip.speaker].append(read_audio(clip.at))
    if len(by_speaker) < 2:
        raise UsageError(
            f"--speech: {folder} has one speaker; give a folder of two or more, a subfolder each"
        )
    for number in range(count):
        rng = np.random.default_rng(row_seed(seed, f"pair {number}"))
        one, other = rng.choice(sorted(by_speaker), size=2, replace=False)
        (source, *source_voice), (reference, *target_voice) = (
            [by_speaker[speaker][index] for index in rng.permutation(len(by_speaker[speaker]))]
            for speaker in (one, other)
        )
        yield Pair(
            source=source,
            reference=trimmed(reference),
            source_voice=tuple(source_voice[:MAX_RECORDINGS]) or (source,),
            target_voice=tuple(target_voice[:MAX_RECORDINGS]) or (reference,),
        )

"""What a voice converter is measured on: pairs of a sound and a voice that is to say it.

Puppets of the test cast, whom no shipped checkpoint has heard, or recordings in a folder. Beside what
is converted, a pair has other sounds of both voices, which a judge of speakers compares with.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from augment.audio.variants import SAMPLING_RATE
from pipelines.errors import UsageError
from pipelines.row import row_seed

if TYPE_CHECKING:
    from pipelines.puppets.voice import Voice

HEARD = 5
"""Sounds of a voice, at most, that a judge of speakers compares with."""
UNLIKE_OCTAVES = 0.35
"""Puppets whose usual pitches are farther apart are of unlike voices: the test cast has three sorts."""
Voices = Literal["any", "unlike"]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """What is to be converted, and what should come out; float32 at 16 kHz, (samples,) each."""

    source: np.ndarray
    reference: np.ndarray
    """Of the target voice, with other words."""
    source_voice: tuple[np.ndarray, ...]
    """Other sounds of the source's voice."""
    target_voice: tuple[np.ndarray, ...]
    """Other sounds of the target voice."""
    truth: np.ndarray | None = None
    """The source's sentence as the target voice says it; known of puppets alone."""
    text: str | None = None
    """What the source says, in English; None where it is not known."""


@dataclass(frozen=True, kw_only=True)
class Converted(Pair):
    """A pair and what became of it."""

    result: np.ndarray
    seconds: float
    """That the conversion took."""


def convert(converter: Any, pair: Pair, *, seed: int, **settings: float) -> Converted:
    """Let a `VoiceConversionPipeline` convert a pair, with these settings of its call."""
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
    """Pairs of puppets of the test cast, each of two new voices and a new sentence."""
    from pipelines.puppets.voice import random_voice

    for number in range(count):
        rng = np.random.default_rng(row_seed(seed, f"pair {number}"))
        one, other = random_voice(rng, "test"), random_voice(rng, "test")
        while voices == "unlike" and abs(np.log2(one.pitch_hz / other.pitch_hz)) < UNLIKE_OCTAVES:
            other = random_voice(rng, "test")
        yield _puppets(one, other, rng)


def _puppets(one: Voice, other: Voice, rng: np.random.Generator) -> Pair:
    from pipelines.puppets.script import sentence
    from pipelines.puppets.voice import render

    mood, text, together = rng.uniform(-1, 1), sentence(0.0, rng, "test"), int(rng.integers(2**32))
    # Of one pace and with equal generators, both say each sound at the same time.
    source, truth = (
        render(text, replace(voice, pace=1.0), valence=mood, rng=np.random.default_rng(together))
        for voice in (one, other)
    )
    reference, *heard = (
        render(sentence(0.0, rng, "test"), voice, valence=rng.uniform(-1, 1), rng=rng)
        for voice in (*[other] * (1 + HEARD), *[one] * HEARD)
    )
    return Pair(
        source=source,
        reference=reference,
        source_voice=tuple(heard[HEARD:]),
        target_voice=tuple(heard[:HEARD]),
        truth=truth,
        text=text,
    )


def of_folder(folder: Path, count: int, seed: int) -> Iterator[Pair]:
    """Pairs of recordings in a folder of speech, as `augment.audio.voices` takes one.

    A voice with no other recording is compared with the one that is converted, or that is the reference.

    Raises:
        UsageError: If the folder holds no speech, or that of one speaker alone.
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
        source, *source_voice = _shuffled(by_speaker[one], rng)
        reference, *target_voice = _shuffled(by_speaker[other], rng)
        yield Pair(
            source=source,
            reference=trimmed(reference),
            source_voice=tuple(source_voice[:HEARD]) or (source,),
            target_voice=tuple(target_voice[:HEARD]) or (reference,),
        )


def _shuffled(sounds: list[np.ndarray], rng: np.random.Generator) -> list[np.ndarray]:
    return [sounds[index] for index in rng.permutation(len(sounds))]

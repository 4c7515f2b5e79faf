"""The embedded corpus: talking heads made on the spot, in a folder that `daq-msa import folder` takes.

A puppet says a sentence. Its face, its voice and its words each carry a valence of their own in
[-1, 1], so that every label is known without a rater. Mostly the three agree; in a share of the
clips they do not. `docs/puppets.md` says what may be concluded from such clips.

A clip is drawn from (seed, its id) alone: neither the order of clips nor the number of processes
changes it.
"""

from __future__ import annotations

import csv
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pipelines import media, row
from pipelines.puppets.face import Look, draw_clip, random_look
from pipelines.puppets.script import Cast, sentence
from pipelines.puppets.voice import Voice, mouth_opening, random_voice, speak

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SAMPLING_RATE = 16_000
FPS = 12.5
SIZE = 64
"""Pixels of a frame's side."""

# The label: 3 * (weighted mean of the valences + rating noise), on MOSI's scale. Ours: words
# weigh most, as raters' do, but not so much that the words alone would be enough.
LABEL_WEIGHTS = {"text": 0.4, "audio": 0.3, "video": 0.3}
LABEL_NOISE = 0.05
"""Standard deviation of the rating noise, in valence."""
AGREEMENT_NOISE = 0.15
"""Standard deviation of each modality about the shared valence where they agree."""
DISAGREEING = 0.35
"""Share of clips whose modalities are drawn independently."""

COLUMNS = (
    "path", "text", "label", "split", "group", "id",
    "label_text", "label_audio", "label_video", "language", "scale",
)  # fmt: skip


class Valences(NamedTuple):
    """What each modality of a clip carries, in [-1, 1]."""

    text: float
    audio: float
    video: float


@dataclass(frozen=True, kw_only=True)
class Person:
    """A puppet: a face and a voice."""

    name: str
    cast: Cast
    look: Look
    voice: Voice


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A puppet saying a sentence."""

    text: str
    frames: np.ndarray
    """uint8 RGB (F, 64, 64, 3) at `FPS`."""
    samples: np.ndarray
    """float32 mono in [-1, 1] at 16 kHz."""
    valences: Valences
    label: float
    """On MOSI's scale, [-3, 3]."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One line of a corpus before it is made."""

    id: str
    split: str
    speaker: str
    cast: Cast


def person(name: str, cast: Cast, seed: int) -> Person:
    """The puppet of a name: equal for equal arguments."""
    rng = np.random.default_rng(row.row_seed(seed, f"{cast}/{name}"))
    return Person(name=name, cast=cast, look=random_look(rng, cast), voice=random_voice(rng, cast))


def valences(rng: np.random.Generator) -> Valences:
    """What the three modalities of a clip carry: mostly nearly the same, sometimes not."""
    if rng.random() < DISAGREEING:
        return Valences(*map(float, rng.uniform(-1, 1, size=3)))
    shared = rng.uniform(-1, 1)
    return Valences(*map(float, np.clip(shared + rng.normal(0, AGREEMENT_NOISE, size=3), -1, 1)))


def label(carried: Valences, rng: np.random.Generator) -> float:
    """A clip's sentiment on MOSI's scale, [-3, 3], in steps of 0.2 like a mean of five raters."""
    weights = LABEL_WEIGHTS
    mean = (
        weights["text"] * carried.text + weights["audio"] * carried.audio + weights["video"] * carried.video
    )
    rated = float(np.clip(mean + rng.normal(0, LABEL_NOISE), -1, 1))
    return round(round(3 * rated / 0.2) * 0.2, 1)


def make_clip(who: Person, carried: Valences, rng: np.random.Generator) -> Clip:
    """Let a puppet speak."""
    text = sentence(carried.text, rng, who.cast)
    samples = speak(text, who.voice, valence=carried.audio, rng=rng)
    mouth = mouth_opening(samples, FPS, SAMPLING_RATE)
    frames = draw_clip(who.look, valence=carried.video, mouth=mouth, rng=rng, size=SIZE)
    return Clip(text=text, frames=frames, samples=samples, valences=carried, label=label(carried, rng))


def draw(part: Part, seed: int, **moved: float) -> Clip:
    """The clip of a part of a corpus.

    Args:
        part: Whose clip.
        seed: Of the corpus.
        moved: Valences by modality to take for those that were drawn. With another one of the picture
            alone, the words, the sound, the blinks and the motion of the head are the same.
    """
    rng = np.random.default_rng(row.row_seed(seed, part.id))
    carried = valences(rng)._replace(**moved)
    return make_clip(person(part.speaker, part.cast, seed), carried, rng)


def plan(clips: int, train_speakers: int | None = None) -> list[Part]:
    """Who speaks in which clip: 60 % train, 15 % valid, 25 % test, no speaker in two splits.

    Speakers of train are cast `train`, those of valid and test are cast `test`: they look and
    sound like nobody in train. With `train_speakers`, the clips of other speakers of train are left out:
    training rows are scarce then, and the others are the same.
    """
    if clips < 8:
        raise ValueError(f"clips: got {clips}, wants at least 8, so that each split has some")
    if train_speakers is not None and train_speakers < 1:
        raise ValueError(f"train_speakers: got {train_speakers}, wants 1 or more")
    valid, test = max(2, round(0.15 * clips)), max(2, round(0.25 * clips))
    parts: list[Part] = []
    for split, count in (("train", clips - valid - test), ("valid", valid), ("test", test)):
        speakers = max(1, count // 4)
        cast: Cast = "train" if split == "train" else "test"
        kept = speakers if split != "train" or train_speakers is None else train_speakers
        for number in range(count):
            if number % speakers >= kept:
                continue
            speaker = f"{split}{number % speakers:03d}"
            parts.append(Part(id=f"{speaker}/{number:05d}", split=split, speaker=speaker, cast=cast))
    return parts


def write_corpus(
    out: Path, *, clips: int, seed: int, train_speakers: int | None = None, workers: int = 2
) -> int:
    """Make a corpus in a folder: `label.csv` and `clips/*.mkv`; returns the number of clips.

    Args:
        out: The folder; made if missing.
        clips: How many, over all splits; at least 8.
        seed: Of all that is drawn.
        train_speakers: Keep the clips of so many speakers of train; None keeps all.
        workers: Processes that draw. Changes nothing but the time.

    Raises:
        ValueError: If `clips` or `train_speakers` is too small.
    """
    parts = plan(clips, train_speakers)
    (out / "clips").mkdir(parents=True, exist_ok=True)
    table = out / "label.csv"
    # The table comes last, so that a folder with one is complete.
    table.unlink(missing_ok=True)
    lines = list(_lines(out, parts, seed, workers))
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(lines)
    return len(lines)


def _lines(out: Path, parts: list[Part], seed: int, workers: int) -> Iterator[dict[str, object]]:
    arguments = [(out, part, seed) for part in parts]
    if workers <= 1:
        yield from map(_write_part, arguments)
        return
    with ProcessPoolExecutor(workers) as pool:
        yield from pool.map(_write_part, arguments, chunksize=8)


def _write_part(arguments: tuple[Path, Part, int]) -> dict[str, object]:
    out, part, seed = arguments
    clip = draw(part, seed)
    path = f"clips/{part.id.replace('/', '_')}.mkv"
    (out / path).write_bytes(media.mux(clip.frames, FPS, clip.samples, SAMPLING_RATE))
    unimodal = {f"label_{name}": round(3 * value, 3) for name, value in clip.valences._asdict().items()}
    return {
        "path": path, "text": clip.text, "label": clip.label, "split": part.split, "group": part.speaker,
        "id": part.id, **unimodal, "language": "en", "scale": "mosi",
    }  # fmt: skip

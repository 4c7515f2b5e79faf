"""The embedded corpus: synthetic talking heads, written as a folder that `daq-msa import folder` reads.

A puppet says a sentence. Its face, its voice and its words each carry a valence in [-1, 1], so every label
is known without annotators. In most clips the three agree, in some they do not. `docs/puppets.md` says
what may be concluded from such clips.

A clip depends only on (seed, its id): neither the order of clips nor the number of processes changes it.
"""

from __future__ import annotations

import csv
import hashlib
import logging
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pipelines import media, row
from pipelines.atomic import DamagedFile, replacing
from pipelines.corpora.folder import PUPPETS
from pipelines.errors import UsageError
from pipelines.puppets.face import Look, draw_clip, random_look
from pipelines.puppets.script import SpeakerPool, sentence
from pipelines.puppets.voice import Voice, mouth_opening, random_voice, speak
from pipelines.running.outputs import check_output
from pipelines.running.workers import worker_pool
from pipelines.store_files.checksums import read_sealed, write_sealed

if TYPE_CHECKING:
    from pathlib import Path

logger = logging.getLogger(__name__)

TABLE = "label.csv"
SAMPLING_RATE = 16_000
FPS = 12.5
SIZE = 64  # pixels of a frame's side

# The label: 3 * (weighted mean of the valences + rating noise), on MOSI's scale. The weights are ours:
# words weigh most, as they do for human raters, but not so much that the words alone would be enough.
LABEL_WEIGHTS = {"text": 0.4, "audio": 0.3, "video": 0.3}
LABEL_NOISE = 0.05  # standard deviation of the rating noise, in valence
AGREEMENT_NOISE = 0.15  # standard deviation of each modality around the shared valence where they agree
DISAGREEING = 0.35  # share of clips whose modalities are drawn independently


class Valences(NamedTuple):
    """The valence that each modality of a clip carries, in [-1, 1]."""

    text: float
    audio: float
    video: float


@dataclass(frozen=True, kw_only=True)
class Person:
    """A puppet: a face and a voice."""

    name: str
    speaker_pool: SpeakerPool
    look: Look
    voice: Voice


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A puppet saying a sentence."""

    text: str
    frames: np.ndarray  # uint8 RGB (F, 64, 64, 3) at `FPS`
    samples: np.ndarray  # float32 mono in [-1, 1] at 16 kHz
    valences: Valences
    label: float  # on MOSI's scale, [-3, 3]


@dataclass(frozen=True, kw_only=True)
class Part:
    """One clip of a corpus before it is drawn."""

    id: str
    split: str
    speaker: str
    speaker_pool: SpeakerPool


def person(name: str, speaker_pool: SpeakerPool, seed: int) -> Person:
    """The puppet of a name; equal arguments give equal puppets."""
    rng = np.random.default_rng(row.row_seed(seed, f"{speaker_pool}/{name}"))
    look, voice = random_look(rng, speaker_pool), random_voice(rng, speaker_pool)
    return Person(name=name, speaker_pool=speaker_pool, look=look, voice=voice)


def valences(rng: np.random.Generator) -> Valences:
    """Draw the valences of a clip's modalities: nearly equal in most clips, independent in the others."""
    if rng.random() < DISAGREEING:
        return Valences(*map(float, rng.uniform(-1, 1, size=3)))
    shared = rng.uniform(-1, 1)
    return Valences(*map(float, np.clip(shared + rng.normal(0, AGREEMENT_NOISE, size=3), -1, 1)))


def label(carried: Valences, rng: np.random.Generator) -> float:
    """A clip's sentiment on MOSI's scale, [-3, 3], in steps of 0.2 like a mean of five raters."""
    mean = sum(weight * getattr(carried, modality) for modality, weight in LABEL_WEIGHTS.items())
    rated = float(np.clip(mean + rng.normal(0, LABEL_NOISE), -1, 1))
    return round(round(3 * rated / 0.2) * 0.2, 1)


def make_clip(who: Person, carried: Valences, rng: np.random.Generator) -> Clip:
    """Draw a clip of a puppet that says a sentence with these valences."""
    text = sentence(carried.text, rng, who.speaker_pool)
    samples = speak(text, who.voice, valence=carried.audio, rng=rng)
    mouth = mouth_opening(samples, FPS, SAMPLING_RATE)
    frames = draw_clip(who.look, valence=carried.video, mouth=mouth, rng=rng, size=SIZE)
    return Clip(text=text, frames=frames, samples=samples, valences=carried, label=label(carried, rng))


def draw(part: Part, seed: int, **moved: float) -> Clip:
    """Draw the clip of a part of a corpus, with the valences `moved` instead of the drawn ones.

    If only the valence of the video changes, the words, the audio, the blinks and the motion of the head stay
    the same.
    """
    rng = np.random.default_rng(row.row_seed(seed, part.id))
    carried = valences(rng)._replace(**moved)
    return make_clip(person(part.speaker, part.speaker_pool, seed), carried, rng)


def plan(clips: int, train_speakers: int | None = None) -> list[Part]:
    """Who speaks in which clip: 60 % train, 15 % valid, 25 % test, no speaker in two splits.

    Speakers of train come from the speaker pool `train`, those of valid and test from `test`: they look and
    sound like nobody in train. `train_speakers` keeps the clips of so many speakers of train only, which
    makes training rows scarce and changes no other clip.

    Raises:
        UsageError: If `clips` or `train_speakers` is too small.
    """
    if clips < 8:
        raise UsageError(f"clips: got {clips}, expected at least 8, so that each split has some")
    if train_speakers is not None and train_speakers < 1:
        raise UsageError(f"train_speakers: got {train_speakers}, expected 1 or more")
    valid, test = max(2, round(0.15 * clips)), max(2, round(0.25 * clips))
    parts: list[Part] = []
    for split, count in (("train", clips - valid - test), ("valid", valid), ("test", test)):
        speakers = max(1, count // 4)
        pool: SpeakerPool = "train" if split == "train" else "test"
        kept = speakers if split != "train" or train_speakers is None else train_speakers
        for number in range(count):
            if number % speakers < kept:
                speaker = f"{split}{number % speakers:03d}"
                clip_id = f"{speaker}/{number:05d}"
                parts.append(Part(id=clip_id, split=split, speaker=speaker, speaker_pool=pool))
    return parts


def write_corpus(
    out: Path, *, clips: int, seed: int, train_speakers: int | None = None, workers: int = 2
) -> int:
    """Make a corpus in a folder, unless it is there; returns the number of clips.

    It holds `clips/*.mkv`, `label.csv`, and `puppets.json` with the arguments that the clips depend on, the
    digest of the table and the bytes of all clips in sum. If it is unfinished or damaged, it is made again.

    Args:
        out: The folder; made if missing.
        clips: The number of clips over all splits, at least 8.
        seed: The seed of everything that is drawn.
        train_speakers: Keep the clips of so many speakers of train; None keeps all.
        workers: The number of processes that draw, at least 1; it does not change the clips.

    Raises:
        UsageError: If a number is too small, or the folder holds other puppets or another corpus.
    """
    parts = plan(clips, train_speakers)
    if workers < 1:
        raise UsageError(f"workers: got {workers}, expected 1 or more")
    check_output(out, {})
    arguments = {"clips": clips, "seed": seed, "train_speakers": train_speakers}
    if not _is_there(out, arguments, parts):
        # First, so that a folder in which a run was killed is known as one of puppets.
        write_sealed(out / PUPPETS, arguments | {"table_sha256": None})
        _write_table(out / TABLE, _write_clips(out, seed, parts, workers))
        write_sealed(out / PUPPETS, arguments | _contents(out, parts))
    return len(parts)


def _is_there(out: Path, arguments: dict[str, Any], parts: list[Part]) -> bool:
    """Whether a folder holds the corpus of these arguments, whole.

    Raises:
        UsageError: If it holds something else, which would be replaced.
    """
    record = _record(out, parts)
    if record is None:
        return False
    held = {name: record.get(name) for name in arguments}
    if held != arguments:
        raise _refusal(out, f"puppets of {_told(held)}, not of {_told(arguments)}")
    is_whole = _is_whole(out, record, parts)
    if not is_whole:
        logger.warning("%s: the puppets are unfinished or damaged, and are made again", out)
    return is_whole


def _record(out: Path, parts: list[Part]) -> dict[str, Any] | None:
    """What a folder says of the puppets in it; None if there are none, or the record is lost or damaged.

    Raises:
        UsageError: If it is, and other files than those of these puppets are there.
    """
    try:
        return read_sealed(out / PUPPETS)
    except FileNotFoundError:
        problem = f"no {PUPPETS}"
    except DamagedFile as error:
        problem = str(error)
    found = _other_file(out, parts)
    if found is not None:
        raise _refusal(out, f"{found.relative_to(out)}, which is none of these puppets ({problem})")
    if (out / TABLE).exists() or (out / PUPPETS).exists():
        logger.warning("%s: %s; the puppets are made again", out, problem)
    return None


def _other_file(out: Path, parts: list[Part]) -> Path | None:
    """A clip, or a table of clips, that is not of these parts."""
    own, table = {_path(part) for part in parts}, out / TABLE
    for path in sorted(out.glob("clips/[!.]*")):
        if path.relative_to(out).as_posix() not in own:
            return path
    try:
        with table.open(newline="", encoding="utf-8") as file:
            lines = csv.DictReader(file)
            listed = {line.get("path") for line in lines}
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError, csv.Error):
        return table
    is_ours = listed <= own and "path" in (lines.fieldnames or ["path"])  # an empty file holds nothing
    return None if is_ours else table


def _is_whole(out: Path, record: dict[str, Any], parts: list[Part]) -> bool:
    """Whether a record vouches for the files; with an earlier version's, the table's lines are counted."""
    try:
        contents = _contents(out, parts)
    except FileNotFoundError:
        return False
    if "table_sha256" not in record:
        return (out / TABLE).read_bytes().count(b"\n") == 1 + len(parts)
    return contents.items() <= record.items()


def _contents(out: Path, parts: list[Part]) -> dict[str, Any]:
    """The digest of the table, and the bytes of all clips in sum, which are not read.

    Raises:
        FileNotFoundError: If one of them is missing.
    """
    return {
        "table_sha256": hashlib.sha256((out / TABLE).read_bytes()).hexdigest(),
        "clip_bytes": sum((out / _path(part)).stat().st_size for part in parts),
    }


def _refusal(out: Path, held: str) -> UsageError:
    return UsageError(
        f"--out: {out} holds {held}, which would be replaced; choose another folder (an import's puppets go"
        " into `puppets` beside its --out), or move this one away"
    )


def _told(arguments: dict[str, Any]) -> str:
    told = (f"{name} {value}" for name, value in arguments.items() if value is not None)
    return ", ".join(told) or "unknown arguments"


def _write_table(path: Path, lines: list[dict[str, object]]) -> None:
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, lines[0])
        writer.writeheader()
        writer.writerows(lines)


def _write_clips(out: Path, seed: int, parts: list[Part], workers: int) -> list[dict[str, object]]:
    """Draw the clips and write their media; returns their lines of the table."""
    write = partial(_write_clip, out, seed)
    if workers == 1:
        return [*map(write, parts)]
    with worker_pool(workers) as pool:
        return [*pool.map(write, parts, chunksize=8)]


def _path(part: Part) -> str:
    return f"clips/{part.id.replace('/', '_')}.mkv"


def _write_clip(out: Path, seed: int, part: Part) -> dict[str, object]:
    """Draw a clip and write its media; returns its line of the table."""
    clip = draw(part, seed)
    path = _path(part)
    with replacing(out / path) as temporary:
        temporary.write_bytes(media.mux(clip.frames, FPS, clip.samples, SAMPLING_RATE))
    unimodal = {f"label_{name}": round(3 * value, 3) for name, value in clip.valences._asdict().items()}
    return {
        "path": path, "text": clip.text, "label": clip.label, "split": part.split, "group": part.speaker,
        "id": part.id, **unimodal, "language": "en", "scale": "mosi",
    }  # fmt: skip

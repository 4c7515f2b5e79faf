"""The import: a corpus on disk in, a store of originals out. `daq-msa import`; a recipe's section `corpus`.

Every clip is decoded and encoded again, by the encoder that variants go through, so that the codec
does not tell an original from a variant. `docs/importing.md` says what becomes of a file that is
broken, silent, too long, or odd in some other way: it never ends the run.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pipelines import provenance
from pipelines.corpora.readers import READERS
from pipelines.decoding.isolation import Isolated
from pipelines.errors import RowError, UsageError, call
from pipelines.row import Row, media, new_row

if TYPE_CHECKING:
    from pipelines.corpora.table import BadLine, Clip, Corpus
    from pipelines.media import Clip as MediaClip
    from pipelines.media_types import MediaInfo
    from pipelines.runner import Task
    from pipelines.settings import Invocation

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    CorpusName = str
else:
    CorpusName = Literal["puppets", *READERS]

MAX_FPS = 30.0  # of clips whose rate is not set
MIN_PUPPETS = 8
SAMPLING_RATE = 16_000
# Reading a clip may take so many times the length of the longest one accepted, and at least so long (s).
LIMIT, MIN_LIMIT_S = 10.0, 60.0
VERSIONS = ("daq-msa", "av", "decord2")


@dataclass(frozen=True, kw_only=True)
class ImportConfig:
    """Which corpus, and how its clips are kept."""

    name: CorpusName = "puppets"
    """The layout; `puppets` are made on the spot."""
    path: str | None = None
    """The corpus' folder; of `folder` its CSV; of `puppets` nothing."""
    clips: int = 96
    """How many clips of puppets to make, at least 8."""
    fold: int = 0
    """Which official fold of MUStARD is the test split, 0 to 4."""
    speaker_independent: bool = False
    """MUStARD's speaker-independent split instead of a fold."""
    strict: bool = False
    """Refuse a table that has a bad line; else its good lines are imported and each bad one is rejected."""
    max_duration_s: float = 60.0
    """Longer clips are rejected, in seconds."""
    max_side: int | None = 640
    """Frames are shrunk until the longer side has at most so many pixels; null keeps their size."""
    fps: float | None = None
    """Frames a second; null keeps a clip's own average rate, at most 30."""
    audio_language: str | None = None
    """Of several audio streams take that with this language tag, such as eng; null takes the default one."""

    def __post_init__(self) -> None:
        if self.name not in ("puppets", *READERS):
            raise ValueError(f"name: {self.name!r} is none of puppets, {', '.join(READERS)}")
        if (self.path is None) != (self.name == "puppets"):
            wanted = "puppets have none" if self.path else f"give the folder or CSV of {self.name}"
            raise ValueError(f"path: got {self.path}; {wanted}")
        if self.name != "mustard" and (self.fold or self.speaker_independent):
            raise ValueError(f"fold, speaker_independent: these are of mustard, name is {self.name}")
        if self.name == "puppets" and self.clips < MIN_PUPPETS:
            raise ValueError(f"clips: {self.clips} is too few for three splits; take {MIN_PUPPETS} or more")
        if self.max_duration_s <= 0:
            raise ValueError(f"max_duration_s: {self.max_duration_s:g} is not above 0")
        if self.max_side is not None and self.max_side < 16:
            raise ValueError(f"max_side: {self.max_side} is not null or 16 or more")
        if self.fps is not None and not 0 < self.fps <= 120:
            raise ValueError(f"fps: {self.fps:g} is not null or in (0, 120]")

    def decoding(self) -> dict[str, Any]:
        """The settings that a row depends on."""
        settings = {"max_duration_s": self.max_duration_s, "max_side": self.max_side, "fps": self.fps}
        # Stores of earlier versions have no such key in their tasks' digests.
        return settings | ({"audio_language": self.audio_language} if self.audio_language else {})


class MissingClip(RowError):
    """A line of the table whose media file is not there."""


class MalformedLine(RowError):
    """A line of the table that gives no clip."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What became of a corpus' lines."""

    read: int
    done: int
    rejected: int
    missing: int
    """Of the rejected those whose file is not there."""
    malformed: int
    """Of the rejected the bad lines of the tables."""

    def __str__(self) -> str:
        counts = {"missing": self.missing, "malformed lines": self.malformed}
        told = ", ".join(f"{count} of them {name}" for name, count in counts.items() if count)
        return (
            f"{self.read} rows read, {self.done} done, {self.rejected} rejected{f' ({told})' if told else ''}"
        )


@dataclass(frozen=True, kw_only=True)
class Source:
    """What a row is made of."""

    line: Clip | BadLine
    """Of the table."""
    sha256: str | None = None
    """Of the media file, in hex; None where there is none."""
    name: str | None = None
    """The file's path in the corpus."""


class ImportClips:
    """The operator: lines of the tables with their media files in, rows out.

    A batch is decoded side by side, each clip in a process that is replaced if it crashes or hangs. Where a
    clip of it is rejected, the others are kept for when they are asked for one by one.
    """

    def __init__(self, config: ImportConfig) -> None:
        self.config = config
        self.versions = provenance.versions(VERSIONS)
        self._threads = ThreadPoolExecutor(batch_size())
        self._decode = Isolated(decode, max(MIN_LIMIT_S, LIMIT * config.max_duration_s))
        self._made: dict[str, Future[Row]] = {}

    def __call__(self, sources: Sequence[Source]) -> list[Row]:
        """Decode, check and encode.

        Raises:
            MediaError: If a file is rejected; the message says why.
            MissingClip: If there is no file where the table names one.
            MalformedLine: If the line is a bad one.
        """
        ids = [source.line.id for source in sources]
        if not set(ids) <= set(self._made):
            self._made = {source.line.id: self._threads.submit(self._row, source) for source in sources}
            wait(self._made.values())
        return [self._made[line_id].result() for line_id in ids]

    def _row(self, source: Source) -> Row:
        from pipelines.corpora.table import BadLine

        line = source.line
        if isinstance(line, BadLine):
            raise MalformedLine(line.reasons)
        if line.path is None and line.media_name is not None:
            raise MissingClip(f"{line.id}: the table has it, but there is no media file {line.media_name}")
        tracks, notes, info = {}, ["no media"], None
        if line.path:
            tracks, notes, info = self._decode(str(line.path), line.path, self.config)
        made = {
            "method": "import",
            "media_sha256": source.sha256,
            "source_name": source.name,
            "source": info,
            "settings": self.config.decoding(),
            "notes": notes,
            "versions": self.versions,
        }
        return original(line, **tracks, generator=json.dumps(made, ensure_ascii=False, sort_keys=True))


def decode(path: Path, config: ImportConfig) -> tuple[Row, list[str], dict[str, Any]]:
    """The columns that a media file gives, the notes on it, and what it was.

    Raises:
        MediaError: If the file is rejected.
    """
    from pipelines.media import MediaError, encode_video, open_clip

    clip = open_clip(path, max_duration_s=config.max_duration_s, audio_language=config.audio_language)
    info, notes = clip.info, []
    video, duration_s, fps = None, info.audio_duration_s, None
    if info.has_video:
        stream = clip.video(fps=config.fps or min(info.fps, MAX_FPS), max_side=config.max_side)
        video, duration_s, fps = encode_video(stream, stream.fps), stream.length / stream.fps, stream.fps
        notes += _picture_notes(info, stream.fps, stream.width, stream.height)
    else:
        notes.append("no video stream")
    audio, note = _audio(clip)
    notes = [*clip.notes, *notes, *([note] if note else [])]
    if video is None and audio is None:
        raise MediaError(f"{path}: holds neither picture nor sound ({', '.join(notes)})")
    tracks = {"video": media(video), "audio": media(audio), "duration_s": duration_s, "fps": fps}
    return tracks, notes, asdict(info)


def _audio(clip: MediaClip) -> tuple[bytes | None, str | None]:
    """The encoded audio, or None and why there is none."""
    from pipelines.media import encode_audio

    if not clip.info.has_audio:
        return None, "no audio stream"
    samples = clip.audio(SAMPLING_RATE)
    if abs(samples).max() * 32768 < 0.5:  # every sample is 0 once it has 16 bits
        return None, "digital silence"
    return encode_audio(samples, SAMPLING_RATE), None


def run(invocation: Invocation[ImportConfig]) -> Summary:
    """Import a corpus.

    Returns:
        What became of its lines; zeros but for the first of several processes.

    Raises:
        CorpusError: If the corpus' tables are malformed, or its groups cross splits.
        StageFailed: If too many clips, or all of them, were rejected.
    """
    from pipelines.row import features
    from pipelines.runner import Stage

    config, out = invocation.config, invocation.out
    corpus = read_corpus(config, out.parent / "puppets", invocation.seed)
    if corpus.crossing:
        logger.warning(
            "%s: groups in more than one of the official splits: %d", corpus.name, len(corpus.crossing)
        )
    silent = sum(not clip.text for clip in corpus.clips)
    if silent:
        logger.warning("%s: %d of %d rows have no transcript", corpus.name, silent, len(corpus.clips))
    tasks = plan(corpus, config)
    stage = Stage("import", out, features().arrow_schema, invocation.run_settings(batch_size()))
    stage.perform(tasks, lambda task: task.payload, lambda: ImportClips(config))
    if not stage.leads:
        return Summary(read=0, done=0, rejected=0, missing=0, malformed=0)
    settings = provenance.record(
        invocation,
        stage="import",
        title=f"Talking-face clips: {corpus.name}",
        description=f"The clips of {corpus.name}, encoded alike; originals, before augmentation.",
        inputs={"crossing_groups": corpus.crossing, "missing": list(corpus.missing)},
    )
    rows = (stage.parts.get(task.key) for task in tasks if stage.parts.done(task.key))
    done = sum(stage.commit(tasks, rows, settings).values())
    return Summary(
        read=len(tasks),
        done=done,
        rejected=len(tasks) - done,
        missing=len(corpus.missing),
        malformed=len(corpus.bad_lines),
    )


def read_corpus(config: ImportConfig, puppets: Path, seed: int) -> Corpus:
    """The corpus of the settings.

    Args:
        config: The settings.
        puppets: Where puppets are made, if they are asked for.
        seed: Of the puppets.
    """
    from pipelines.corpora import folder, readers

    if config.path is None:
        return folder.read(_make_puppets(puppets, config.clips, seed), name="puppets")
    src = Path(config.path)
    if not src.exists():
        raise UsageError(f"corpus.path: {src} does not exist; give the corpus' folder, of `folder` its CSV")
    options: dict[str, Any] = {"strict": config.strict}
    if config.name == "mustard":
        options |= {"fold": config.fold, "speaker_independent": config.speaker_independent}
    return readers.read(config.name, src, **options)


def plan(corpus: Corpus, config: ImportConfig) -> list[Task]:
    """One task a line of the tables, keyed by the file's content and what the table says of it."""
    from pipelines.runner import Task, task_key

    tasks = []
    for clip in corpus.clips:
        source = Source(line=clip)
        if clip.path is not None:
            with clip.path.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            name = Path(os.path.relpath(clip.path, corpus.root)).as_posix()
            source = Source(line=clip, sha256=sha256, name=name)
        # A row of text alone is another one than a clip of the same words whose file is missing.
        named = source.name if clip.media_name is not None else ""
        said = asdict(clip) | {"path": named, "sha256": source.sha256}
        del said["media_name"]
        # An import draws nothing, so no seed is in the key.
        tasks.append(Task(clip.id, task_key(clip.id, said, config.decoding(), 0), source))
    for bad in corpus.bad_lines:
        tasks.append(Task(bad.id, task_key(bad.id, bad.reasons, None, 0), Source(line=bad)))
    return tasks


def batch_size() -> int:
    """Clips that are decoded side by side."""
    return min(16, max(2, os.cpu_count() or 1))


def main(argv: list[str]) -> None:
    """Import, and say in one line what became of the corpus."""
    from pipelines.settings import parse_stage

    invocation = parse_stage(ImportConfig, "corpus", argv, prog="daq-msa import", needs=("out",))
    print(f"{invocation.config.name}: {run(invocation)}; {invocation.out}")


def original(clip: Clip, **media_columns: Any) -> Row:
    """The row of a clip: what its table says, and the columns that its media gave."""
    labels = {name: getattr(clip, name) for name in ("label", "label_text", "label_audio", "label_video")}
    said = {name: getattr(clip, name) for name in ("split", "group", "text", "corpus", "scale", "language")}
    return new_row(id=clip.id, source_id=clip.id, kind="original", **said, **labels, **media_columns)


def _picture_notes(info: MediaInfo, fps: float, width: int, height: int) -> list[str]:
    notes = []
    if not info.constant_rate:
        notes.append(f"variable frame rate, sampled at {fps:.3f} a second")
    if width % 2 or height % 2:
        notes.append(f"odd size {width}x{height}, cropped to {width - width % 2}x{height - height % 2}")
    return notes


def _make_puppets(folder: Path, clips: int, seed: int) -> Path:
    """The table of a corpus of puppets, made unless it is there from the same settings."""
    from pipelines.atomic import write_json
    from pipelines.puppets.corpus import write_corpus

    made, wanted = folder / "puppets.json", {"clips": clips, "seed": seed}
    if not made.exists() or json.loads(made.read_text(encoding="utf-8")) != wanted:
        made.unlink(missing_ok=True)
        write_corpus(folder, clips=clips, seed=seed)
        write_json(made, wanted)
    return folder / "label.csv"


if __name__ == "__main__":
    call(main)

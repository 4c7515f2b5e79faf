"""The import: reads a corpus and writes a store of originals. `daq-msa import`; a recipe's section `corpus`.

Every clip is decoded and encoded again with the encoder of variants, so that originals and variants do not
differ in their codec. A file that is broken, silent, too long or otherwise odd never ends the run;
`docs/importing.md` says how each is treated.
"""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pipelines import provenance
from pipelines.corpora.places import check_machine, check_places
from pipelines.corpora.readers import READERS
from pipelines.corpora.source import Source, check_unchanged, source_of
from pipelines.decoding.isolation import Isolated
from pipelines.decoding.limits import MIN_READING_S, TIMES_LONGEST
from pipelines.decoding.reencoding import Reencoded, reencode
from pipelines.errors import RowError, call
from pipelines.media_types import MediaError
from pipelines.row import Row, arrow_schema, media, new_row
from pipelines.running.folder_lock import alone_in_its_folder

if TYPE_CHECKING:
    from pipelines.corpora.table import Clip, Corpus
    from pipelines.runner import Task
    from pipelines.settings import Invocation

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    CorpusName = str
else:
    CorpusName = Literal["puppets", *READERS]

MIN_PUPPETS = 8
VERSIONS = ("daq-msa", "av", "decord2")


@dataclass(frozen=True, kw_only=True)
class ImportConfig:
    """The corpus, and how its clips are encoded."""

    name: CorpusName = "puppets"
    """The layout; `puppets` are generated."""
    path: str | None = None
    """The corpus' folder; for `folder` its CSV; for `puppets` nothing."""
    clips: int = 96
    """Number of puppet clips to generate, at least 8."""
    fold: int = 0
    """The official fold of MUStARD that is the test split, 0 to 4."""
    speaker_independent: bool = False
    """Use MUStARD's speaker-independent split instead of a fold."""
    strict: bool = False
    """Refuse a table with a bad line; otherwise the good lines are imported and each bad one is rejected."""
    max_duration_s: float = 60.0
    """Longer clips are rejected, in seconds."""
    max_side: int | None = 640
    """Largest side of a frame in pixels; larger frames are scaled down. null keeps their size."""
    fps: float | None = None
    """Frames per second; null keeps a clip's own average rate, at most 30."""
    audio_language: str | None = None
    """Of several audio streams take that with this language tag, such as eng; null takes the default one."""

    def __post_init__(self) -> None:
        if self.name not in ("puppets", *READERS):
            raise ValueError(f"name: {self.name!r} is none of puppets, {', '.join(READERS)}")
        if (self.path is None) != (self.name == "puppets"):
            advice = "puppets have none" if self.path else f"give the folder or CSV of {self.name}"
            raise ValueError(f"path: got {self.path}; {advice}")
        if self.name != "mustard" and (self.fold or self.speaker_independent):
            raise ValueError(f"fold, speaker_independent: these are of mustard, name is {self.name}")
        if not 0 <= self.fold <= 4:
            raise ValueError(f"fold: {self.fold} is not 0 to 4")
        if self.name == "puppets" and self.clips < MIN_PUPPETS:
            raise ValueError(f"clips: {self.clips} is too few for three splits; take {MIN_PUPPETS} or more")
        if not 0 < self.max_duration_s < math.inf:
            raise ValueError(f"max_duration_s: {self.max_duration_s:g} is not above 0 and finite")
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
    """A line of the table whose media file is missing."""


class MalformedLine(RowError):
    """A line of the table that gives no clip."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """How many of a corpus' lines were imported."""

    read: int = 0
    done: int = 0
    rejected: int = 0
    missing: int = 0  # rejected lines whose file is missing
    malformed: int = 0  # rejected lines that are malformed

    def __str__(self) -> str:
        counts = {"missing": self.missing, "malformed lines": self.malformed}
        reasons = ", ".join(f"{count} of them {name}" for name, count in counts.items() if count)
        rejected = f"{self.rejected} rejected ({reasons})" if reasons else f"{self.rejected} rejected"
        return f"{self.read} rows read, {self.done} done, {rejected}"


class ImportClips:
    """The operator: makes rows from lines of the tables and their media files.

    The clips of a batch are decoded in parallel, each in a process that is replaced if it crashes or hangs.
    If one is rejected, the runner tries the batch again one by one; the other clips are kept for that.
    """

    def __init__(self, config: ImportConfig) -> None:
        self.config = config
        self.versions = provenance.versions(VERSIONS)
        self._threads = ThreadPoolExecutor(batch_size())
        self._reencode = Isolated(reencode, max(MIN_READING_S, TIMES_LONGEST * config.max_duration_s))
        self._made: dict[str, Future[Row]] = {}

    def __call__(self, sources: Sequence[Source]) -> list[Row]:
        """Decode, check and encode.

        Raises:
            MediaError: If a file is rejected; the message says why.
            MissingClip: If the file that the table names is missing.
            MalformedLine: If the line is malformed.
        """
        ids = [source.line.id for source in sources]
        if not set(ids) <= set(self._made):
            self._made = {source.line.id: self._threads.submit(self._row, source) for source in sources}
            wait(self._made.values())
        return [self._made[line_id].result() for line_id in ids]

    def close(self) -> None:
        """End the processes that decode."""
        self._made = {}
        self._threads.shutdown()  # each thread has a process, which ends with it

    def _row(self, source: Source) -> Row:
        from pipelines.corpora.table import BadLine

        line = source.line
        if isinstance(line, BadLine):
            raise MalformedLine(line.reasons)
        if line.path is None and line.media_name is not None:
            raise MissingClip(f"{line.id}: the table has it, but there is no media file {line.media_name}")
        if source.refusal:
            raise MediaError(source.refusal)
        tracks: Row = {}
        notes, info = ["no media"], None
        if line.path:
            found: Reencoded = self._reencode(str(line.path), line.path, **self.config.decoding())
            check_unchanged(source, line.path)
            tracks = {"video": media(found.video), "audio": media(found.audio)}
            tracks |= {"duration_s": found.duration_s, "fps": found.fps}
            notes, info = found.notes, found.source
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


def run(invocation: Invocation[ImportConfig]) -> Summary:
    """Import a corpus.

    Returns:
        How many lines were imported; zeros in all but the first of several processes.

    Raises:
        CorpusError: If the corpus' tables are malformed, or its groups cross splits.
        StageFailed: If too many clips, or all of them, were rejected.
    """
    check_machine(batch_size())
    check_places(invocation.config.path, invocation.out, invocation.command)
    return _import(invocation)


@alone_in_its_folder("a store")
def _import(invocation: Invocation[ImportConfig]) -> Summary:
    from pipelines.runner import Stage

    config, out = invocation.config, invocation.out
    operator = ImportClips(config)  # first, since it starts to load the decoders
    corpus = read_corpus(config, out.parent / "puppets", invocation.seed)
    name, crossing = corpus.name, corpus.crossing
    if crossing:
        logger.warning("%s: groups in more than one of the official splits: %d", name, len(crossing))
    no_text = sum(not clip.text for clip in corpus.clips)
    if no_text:
        logger.warning("%s: %d of %d rows have no transcript", name, no_text, len(corpus.clips))
    tasks = plan(corpus, config)
    stage = Stage("import", out, arrow_schema(), invocation.run_settings(batch_size()))
    stage.perform(tasks, lambda task: task.payload, lambda: operator)
    operator.close()  # before the commit, which takes memory of its own
    if not stage.leads:
        return Summary()
    settings = provenance.record(
        invocation,
        stage="import",
        title=f"Talking-face clips: {name}",
        description=f"The clips of {name}, encoded alike; originals, before augmentation.",
        inputs={"crossing_groups": crossing, "missing": list(corpus.missing)},
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
    """Read the corpus of the settings; `puppets` is the folder and `seed` the seed of generated puppets."""
    from pipelines.corpora import folder, readers

    if config.path is None:
        return folder.read(_make_puppets(puppets, config.clips, seed))
    src = Path(config.path)
    options: dict[str, Any] = {"strict": config.strict}
    if config.name == "mustard":
        options |= {"fold": config.fold, "speaker_independent": config.speaker_independent}
    return readers.read(config.name, src, **options)


def plan(corpus: Corpus, config: ImportConfig) -> list[Task]:
    """One task for each line of the tables, keyed by the file's content and the line."""
    from pipelines.runner import Task, task_key

    tasks = []
    for clip in corpus.clips:
        source = source_of(clip, corpus.root)
        # A row of text only must differ from a clip with the same words whose file is missing.
        named = source.name if clip.media_name is not None else ""
        inputs = asdict(clip) | {"path": named, "sha256": source.sha256}
        del inputs["media_name"]
        if source.refusal:  # once the file can be read, it is another task
            inputs["refusal"] = source.refusal
        # An import draws nothing, so the key has no seed.
        tasks.append(Task(clip.id, task_key(clip.id, inputs, config.decoding(), 0), source))
    for bad in corpus.bad_lines:
        tasks.append(Task(bad.id, task_key(bad.id, bad.reasons, None, 0), Source(line=bad)))
    return tasks


def batch_size() -> int:
    """Number of clips that are decoded in parallel."""
    return min(16, max(2, os.cpu_count() or 1))


def main(argv: list[str]) -> None:
    """Import a corpus and print a one-line summary."""
    from pipelines.settings import parse_stage

    invocation = parse_stage(
        ImportConfig, "corpus", argv, prog="python -m pipelines.importing", needs=("out",)
    )
    print(f"{invocation.config.name}: {run(invocation)}; {invocation.out}")


def original(clip: Clip, **media_columns: Any) -> Row:
    """The row of a clip: the values of its table, and the columns of its media."""
    values = {name: value for name, value in vars(clip).items() if name not in ("id", "path", "media_name")}
    return new_row(id=clip.id, source_id=clip.id, kind="original", **values, **media_columns)


def _make_puppets(folder: Path, clips: int, seed: int) -> Path:
    """The table of a puppet corpus, which is generated unless it is there."""
    from pipelines.puppets.corpus import TABLE, write_corpus

    write_corpus(folder, clips=clips, seed=seed)
    return folder / TABLE


if __name__ == "__main__":
    call(main)

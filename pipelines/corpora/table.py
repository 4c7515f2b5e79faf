"""What every importer hands on, and how tables are read: as text, line by line.

A line with a fault costs itself alone, unless the import is strict or no line is without one.
"""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pipelines.errors import RunError, listed
from pipelines.row import SCALES

# What corpora call their splits, in lower case.
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "valid": "valid",
    "validation": "valid",
    "val": "valid",
    "dev": "valid",
    "test": "test",
    "testing": "test",
}


class CorpusError(RunError):
    """A corpus cannot be imported as it lies there. The message names the file, the lines and the reason."""


@dataclass(frozen=True, kw_only=True)
class Clip:
    """One labelled clip of a corpus, not opened yet."""

    id: str
    """`<corpus>/<video>/<clip>`."""
    path: Path | None
    """The media file; None where the table names none, or one that is not there."""
    media_name: str | None = None
    """The media file as the table has it, for messages; None where it names none: a row of text alone."""
    text: str
    """The transcript; empty where there is none."""
    label: float
    """On `scale`."""
    label_text: float | None = None
    label_audio: float | None = None
    label_video: float | None = None
    split: str
    """`train`, `valid` or `test`."""
    group: str
    """Speaker or source video: what must not stand in two splits."""
    language: str | None
    scale: str
    """A name of `pipelines.row.SCALES`."""
    corpus: str


@dataclass(frozen=True, kw_only=True)
class BadLine:
    """A line of a table that gives no clip."""

    id: str
    """`<corpus>/<table>:<place>`."""
    reasons: str
    """All that is wrong with it, and what was found."""


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """The clips of a corpus in the order of its tables."""

    name: str
    root: Path
    """The folder that the clips' paths are told relative to."""
    clips: tuple[Clip, ...]
    bad_lines: tuple[BadLine, ...] = ()
    official_split: bool
    """Whether the split is the one that the corpus is published with, taken even where groups cross it."""

    @property
    def missing(self) -> tuple[str, ...]:
        """Ids of clips whose media file is not there, though the table names one."""
        return tuple(clip.id for clip in self.clips if clip.path is None and clip.media_name is not None)

    @cached_property
    def crossing(self) -> dict[str, tuple[str, ...]]:
        """Groups that stand in more than one split, with those splits."""
        splits = defaultdict(set)
        for clip in self.clips:
            splits[clip.group].add(clip.split)
        return {group: tuple(sorted(names)) for group, names in splits.items() if len(names) > 1}


@dataclass(frozen=True)
class Line:
    """One line of a table, every value as text."""

    place: str
    """Where it stands: `12` of a CSV, the key of a JSON entry."""
    values: Mapping[str, str]

    def get(self, column: str) -> str:
        """The value without surrounding blanks; empty where the table lacks the column."""
        return self.values.get(column, "").strip()

    def lack(self, column: str) -> str:
        """How a column without a value is spoken of: `empty`, or `missing` where the line lacks it."""
        return "empty" if column in self.values else "missing"


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with a line."""

    place: str
    reason: str
    found: str

    def __str__(self) -> str:
        return f"{self.reason} ({self.found})" if self.found else self.reason


class Faults:
    """Checks lines and collects what is wrong with them.

    Args:
        path: The table, for messages.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._found: list[Fault] = []
        self._ids: dict[str, str] = {}

    def add(self, line: Line, reason: str, found: str = "") -> None:
        """Note a fault of a line; in a message about the table, faults of one `reason` are told together."""
        self._found.append(Fault(line.place, reason, found))

    def required(self, line: Line, column: str) -> str:
        """The text of a column that must not be empty."""
        value = line.get(column)
        if not value:
            self.add(line, f"{column} is {line.lack(column)}")
        return value

    def transcript(self, line: Line, column: str, *, media: bool) -> str:
        """The text of a clip, which may be empty beside media, and not where there are none either."""
        value = line.get(column)
        if not value and not media:
            self.add(line, f"there is no media file, and {column} is {line.lack(column)}")
        return value

    def name(self, line: Line, column: str) -> str:
        """An id that names a file or folder, and so no path."""
        value = self.required(line, column)
        if "/" in value or "\\" in value or value in (".", ".."):
            self.add(line, f"{column} is a path, wanted a name", repr(value))
        return value

    def number(self, line: Line, column: str, scale: str) -> float:
        """A label within the range of its scale; NaN where it is none, which is noted."""
        value = line.get(column)
        low, high = SCALES[scale]
        if column not in line.values:
            self.add(line, f"{column} is missing")
            return math.nan
        try:
            number = float(value)
        except ValueError:
            self.add(line, f"{column} is not a number", repr(value))
            return math.nan
        if not low <= number <= high or (scale == "binary" and number not in (0, 1)):
            self.add(line, f"{column} is outside the scale {scale} [{low:g}, {high:g}]", value)
        return number

    def optional_number(self, line: Line, column: str, scale: str) -> float | None:
        """As `number`, but None where the column is empty or lacking."""
        return self.number(line, column, scale) if line.get(column) else None

    def split(self, line: Line, column: str) -> str:
        """The split's name in this project."""
        value = line.get(column)
        if value.lower() not in SPLIT_NAMES:
            self.add(line, f"{column} is no split (train, valid or test)", repr(value))
        return SPLIT_NAMES.get(value.lower(), "")

    def unique(self, line: Line, clip_id: str) -> None:
        """Note a clip that stands in the table twice; the first good line of an id has it."""
        if clip_id in self._ids:
            self.add(line, "the clip stands in the table already", f"{clip_id}, line {self._ids[clip_id]}")
        self._ids.setdefault(clip_id, line.place)

    def sorted_out(
        self, lines: Sequence[Line], clip_of: Callable[[Line], Clip], *, corpus: str, strict: bool
    ) -> tuple[list[Clip], list[BadLine]]:
        """The clips of the lines without a fault, and the others, with those that `read_table` left out.

        Args:
            lines: Of the table.
            clip_of: Makes a line's clip, and notes here what is wrong with it.
            corpus: The corpus' name.
            strict: Refuse the table for a single bad line.

        Raises:
            CorpusError: If a line is bad and the import is strict, or if no line is good.
        """
        bad = [[fault] for fault in self._found]
        clips = []
        for line in lines:
            known = len(self._found)
            clip = clip_of(line)
            if len(self._found) == known:
                self.unique(line, clip.id)
            if len(self._found) == known:
                clips.append(clip)
            else:
                bad.append(self._found[known:])
        if strict or not clips:
            self.raise_any()
        return clips, [self._bad_line(corpus, faults) for faults in bad]

    def _bad_line(self, corpus: str, faults: list[Fault]) -> BadLine:
        place = faults[0].place
        reasons = "; ".join(map(str, faults))
        return BadLine(
            id=f"{corpus}/{self.path.name}:{place}", reasons=f"{self.path.name}, line {place}: {reasons}"
        )

    def raise_any(self) -> None:
        """Refuse the table if anything was wrong.

        Raises:
            CorpusError: With every kind of fault and the first lines of each.
        """
        if self._found:
            places: dict[str, list[str]] = defaultdict(list)
            for fault in self._found:
                places[fault.reason].append(f"{fault.place} ({fault.found})" if fault.found else fault.place)
            kinds = [f"{reason}: line {listed(lines)}" for reason, lines in places.items()]
            raise CorpusError(
                f"{self.path}: the table is malformed and nothing was imported; {'; '.join(kinds)}"
            )


def read_table(faults: Faults, required: Sequence[str]) -> list[Line]:
    """Read a CSV with a header, every value as text (ids keep their zeros and dashes).

    UTF-8 with or without byte-order mark; lines may end as on Windows.

    Args:
        faults: Of the table; lines with too many or too few values are noted there and left out.
        required: Columns that it must have.

    Raises:
        CorpusError: If the file is missing, is not UTF-8, is empty, or lacks a column.
    """
    path = faults.path
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = [name.strip() for name in next(reader, [])]
            lines = [(reader.line_num, values) for values in reader if values]
    except OSError as error:
        raise CorpusError(
            f"{path}: cannot be read ({error.strerror}); it is the table of the corpus"
        ) from error
    except UnicodeDecodeError as error:
        raise CorpusError(f"{path}: is not UTF-8 (byte {error.start}); save the table as UTF-8") from error
    except csv.Error as error:
        raise CorpusError(f"{path}: is no CSV, line {reader.line_num}: {error}") from error
    _check_header(path, header, required)
    if not lines:
        raise CorpusError(f"{path}: has a header and no lines")
    whole = []
    for number, values in lines:
        if len(values) == len(header):
            whole.append(Line(str(number), dict(zip(header, values, strict=True))))
        else:
            faults.add(
                Line(str(number), {}), f"has not {len(header)} values as the header", f"{len(values)} values"
            )
    return whole


def checked(corpus: Corpus) -> Corpus:
    """The corpus, unless groups cross splits that are not its official ones.

    Raises:
        CorpusError: Naming the groups.
    """
    if corpus.crossing and not corpus.official_split:
        groups = [f"{group} ({', '.join(splits)})" for group, splits in corpus.crossing.items()]
        raise CorpusError(
            f"{corpus.root}: groups in more than one split, {len(groups)} of them: {listed(groups)}; a test"
            " on known speakers says little, so put each group into one split"
        )
    return corpus


def _check_header(path: Path, header: Sequence[str], required: Sequence[str]) -> None:
    lacking = [name for name in required if name not in header]
    twice = sorted({name for name in header if header.count(name) > 1})
    if lacking:
        raise CorpusError(f"{path}: the column {listed(lacking)} is missing; the header has {listed(header)}")
    if twice:
        raise CorpusError(f"{path}: the column {listed(twice)} stands in the header more than once")

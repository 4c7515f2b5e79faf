"""The result of every corpus reader, and how tables are read: as text, line by line.

A line with an error is left out, unless the import is strict or no line is good: then the table is refused.
"""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pipelines.corpora.bounded_text import CorpusError as CorpusError
from pipelines.corpora.bounded_text import lines_of
from pipelines.decoding.utf8 import escaped, is_utf8
from pipelines.errors import listed
from pipelines.row import SCALES, is_variant_id

# Punctuation of Windows-1252 that was read as Latin-1, and so stands there as C1 control characters: MELD's
# tables had U+0092 for apostrophes and U+0085 for ellipses. No text has such characters of its own.
_WINDOWS_1252 = {
    code: mark for code in range(0x80, 0xA0) if (mark := bytes([code]).decode("cp1252", "ignore"))
}
# The names of splits in corpora, in lower case.
SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("valid", "validation", "val", "dev"), "valid"),
    **dict.fromkeys(("test", "testing"), "test"),
}


@dataclass(frozen=True, kw_only=True)
class Clip:
    """One labelled clip of a corpus, not decoded yet."""

    id: str  # `<corpus>/<video>/<clip>`
    path: Path | None
    """The media file, if it can be read at all; None if the table names none, or it is missing."""
    media_name: str | None = None
    """The media file as the table names it, for messages; None if it names none: a row of text only."""
    text: str  # the transcript; empty if there is none
    label: float  # on `scale`
    label_text: float | None = None
    label_audio: float | None = None
    label_video: float | None = None
    split: str  # `train`, `valid` or `test`
    group: str  # speaker or source video, which must not be in two splits
    language: str | None
    scale: str  # a key of `pipelines.row.SCALES`
    corpus: str


@dataclass(frozen=True, kw_only=True)
class BadLine:
    """A line of a table that gives no clip."""

    id: str  # `<corpus>/<table>:<place>`
    reasons: str  # everything that is wrong with it, with the values


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """The clips of a corpus in the order of its tables.

    Raises:
        CorpusError: If groups are in more than one split, unless the split is official.
    """

    name: str
    root: Path
    """The folder that clips' names are relative to."""
    clips: Sequence[Clip]
    bad_lines: Sequence[BadLine] = ()
    official_split: bool
    """Whether the split is the one that the corpus is published with; it is used even if groups cross it."""

    def __post_init__(self) -> None:
        if self.crossing and not self.official_split:
            groups = [f"{group} ({', '.join(splits)})" for group, splits in self.crossing.items()]
            raise CorpusError(
                f"{self.root}: groups in more than one split, {len(groups)} of them: {listed(groups)}; a test"
                " on known speakers says little, so put each group into one split"
            )

    @property
    def missing(self) -> tuple[str, ...]:
        """Ids of clips whose media file is missing, though the table names one."""
        return tuple(clip.id for clip in self.clips if clip.path is None and clip.media_name is not None)

    @cached_property
    def crossing(self) -> dict[str, tuple[str, ...]]:
        """Groups that are in more than one split, with those splits."""
        splits = defaultdict(set)
        for clip in self.clips:
            splits[clip.group].add(clip.split)
        return {group: tuple(sorted(names)) for group, names in splits.items() if len(names) > 1}


@dataclass(frozen=True)
class Line:
    """One line of a table, every value as text."""

    place: str  # line number of a CSV, key of a JSON entry
    values: Mapping[str, str]

    def get(self, column: str) -> str:
        """The value without surrounding whitespace; empty if the table lacks the column."""
        # First, since U+0085, the ellipsis, counts as whitespace.
        return self.values.get(column, "").translate(_WINDOWS_1252).strip()

    def lack(self, column: str) -> str:
        """Describes a column without a value: `empty`, or `missing` if the line lacks it."""
        return "empty" if column in self.values else "missing"


@dataclass(frozen=True)
class ParseError:
    """One error in a line."""

    place: str
    reason: str
    value: str

    def __str__(self) -> str:
        return f"{self.reason} ({self.value})" if self.value else self.reason


class ParseErrors:
    """Checks lines and collects their errors.

    Args:
        path: The table, for messages.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._errors: list[ParseError] = []
        self._ids: dict[str, str] = {}

    def add(self, line: Line, reason: str, value: str = "") -> None:
        """Record an error in a line; messages about the table list the lines of each `reason` together."""
        self._errors.append(ParseError(line.place, reason, value))

    def required(self, line: Line, column: str) -> str:
        """The text of a column that must not be empty."""
        value = line.get(column)
        if not value:
            self.add(line, f"{column} is {line.lack(column)}")
        return value

    def transcript(self, line: Line, column: str, *, media: bool) -> str:
        """The text of a clip, which may be empty only if there are media."""
        value = line.get(column)
        if not value and not media:
            self.add(line, f"there is no media file, and {column} is {line.lack(column)}")
        return value

    def name(self, line: Line, column: str) -> str:
        """An id that names a file or folder, so it must not be a path."""
        value = self.required(line, column)
        if "/" in value or "\\" in value or value in (".", ".."):
            self.add(line, f"{column} is a path, expected a name", repr(value))
        return value

    def number(self, line: Line, column: str, scale: str) -> float:
        """A label within the range of its scale; NaN, with an error, if it is not a number."""
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
        """Like `number`, but None if the column is empty or missing."""
        return self.number(line, column, scale) if line.get(column) else None

    def split(self, line: Line, column: str) -> str:
        """The split's name in this project."""
        value = line.get(column)
        if value.lower() not in SPLIT_NAMES:
            self.add(line, f"{column} is no split (train, valid or test)", repr(value))
        return SPLIT_NAMES.get(value.lower(), "")

    def unique(self, line: Line, clip_id: str) -> None:
        """Record an error if an earlier good line has the same id, or a variant could have it."""
        if is_variant_id(clip_id):
            self.add(line, "the clip is named as a variant is", repr(clip_id))
        if clip_id in self._ids:
            self.add(line, "the clip stands in the table already", f"{clip_id}, line {self._ids[clip_id]}")
        self._ids.setdefault(clip_id, line.place)

    def clips(
        self, lines: Sequence[Line], clip_of: Callable[[Line], Clip], *, corpus: str, strict: bool
    ) -> tuple[list[Clip], list[BadLine]]:
        """The clips of the good lines, and the bad lines with those that `read_table` left out.

        Args:
            lines: The table's lines.
            clip_of: Makes a line's clip, and records its errors here.
            corpus: The corpus' name.
            strict: Refuse the table for a single bad line.

        Raises:
            CorpusError: If a line is bad and the import is strict, or if no line is good.
        """
        bad = [[error] for error in self._errors]
        clips = []
        for line in lines:
            known = len(self._errors)
            line = self._storable(line)
            clip = clip_of(line)
            if len(self._errors) == known:
                self.unique(line, clip.id)
            if len(self._errors) == known:
                clips.append(clip)
            else:
                bad.append(self._errors[known:])
        if strict or not clips:
            self.raise_any()
        bad_lines = []
        for errors in bad:
            place, reasons = errors[0].place, "; ".join(map(str, errors))
            name = escaped(self.path.name)
            text = f"{name}, line {place}: {reasons}"
            bad_lines.append(BadLine(id=f"{corpus}/{name}:{place}", reasons=text))
        return clips, bad_lines

    def _storable(self, line: Line) -> Line:
        """A line with what cannot be stored shown as escapes; that is an error of the line."""
        given = {"its id": line.place, **line.values}
        shown = {column: escaped(value).replace("\0", r"\x00") for column, value in given.items()}
        stored = Line(shown.pop("its id"), shown)
        for column, value in given.items():
            if not is_utf8(value):
                self.add(stored, f"{column} is not UTF-8", ascii(value))
            elif "\0" in value:
                self.add(stored, f"{column} holds NUL characters", ascii(value))
        return stored

    def raise_any(self) -> None:
        """Refuse the table if there are errors.

        Raises:
            CorpusError: With every kind of error and the first lines of each.
        """
        if self._errors:
            places: dict[str, list[str]] = defaultdict(list)
            for error in self._errors:
                places[error.reason].append(f"{error.place} ({error.value})" if error.value else error.place)
            kinds = [f"{reason}: line {listed(lines)}" for reason, lines in places.items()]
            raise CorpusError(
                f"{self.path}: the table is malformed and nothing was imported; {'; '.join(kinds)}"
            )


def read_table(errors: ParseErrors, required: Sequence[str]) -> list[Line]:
    """Read a CSV with a header, every value as text (ids keep their zeros and dashes).

    UTF-8 with or without byte-order mark, with Unix or Windows line ends.

    Args:
        errors: Errors of the table; lines with too many or too few values are recorded there and left out.
        required: Columns that it must have.

    Raises:
        CorpusError: If the file cannot be read, is not UTF-8, is no CSV, is empty, or lacks a column.
    """
    path = errors.path
    with lines_of(path) as text:
        reader = csv.reader(text, strict=True)
        header = [name.strip() for name in next(reader, [])]
        lines = [(reader.line_num, values) for values in reader if values]
    if any("\0" in name for name in header):
        raise CorpusError(f"{path}: its header holds NUL characters, as UTF-16 does; save the table as UTF-8")
    if not header:
        raise CorpusError(f"{path}: is empty, so the column {listed(required)} is missing")
    missing = [name for name in required if name not in header]
    if missing:
        raise CorpusError(f"{path}: the column {listed(missing)} is missing; the header has {listed(header)}")
    repeated = sorted({name for name in header if header.count(name) > 1})
    if repeated:
        raise CorpusError(f"{path}: the column {listed(repeated)} is in the header more than once")
    if not lines:
        raise CorpusError(f"{path}: has a header and no lines")
    complete = []
    for number, values in lines:
        if len(values) == len(header):
            complete.append(Line(str(number), dict(zip(header, values, strict=True))))
        else:
            reason = f"has not {len(header)} values as the header"
            errors.add(Line(str(number), {}), reason, f"{len(values)} values")
    return complete

"""The rows of a report: each with its media as files beside the page, and the numbers that are shown.

Media files are named by the SHA-256 of their content, never by an id. So media that an original and its
variants share are written once, and no id has to be a file name.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from pipelines.media import MediaError, probe, read_audio, read_video
from pipelines.report.pictures import POSTER_SIDE, STRIP_FRAMES, STRIP_HEIGHT, jpeg, spectrogram, strip
from pipelines.report.summary import flat
from pipelines.row import MEDIA, QUALITIES, SCALES, Row, provenance
from pipelines.store import StoreReader

FOLDER = "media"
LABELS = ("label", "label_text", "label_audio", "label_video")
SUFFIXES = {"video": ".mp4", "audio": ".flac"}
_NAME_DIGITS = 20
# The names of files that a report has written.
_OURS = re.compile(rf"[0-9a-f]{{{_NAME_DIGITS}}}(-\w+)?\.(mp4|flac|jpg|png)")


@dataclass(frozen=True)
class Medium:
    """A media file and the images that preview it, as addresses relative to the page."""

    src: str
    previews: dict[str, str]
    """`poster` and `strip` of a video, `spectrogram` of audio; none if it cannot be decoded."""
    size: tuple[int, int] | None
    """Width and height of a video's preview; None of audio, and if it cannot be decoded."""
    problem: str
    """Why it cannot be decoded; empty if it can."""


@dataclass(frozen=True)
class Placed:
    """A score or a label, and where it lies in its range."""

    name: str
    value: float | None
    place: float | None
    """From 0 at the low end to 1 at the high end; None without a value or a range."""


@dataclass(frozen=True)
class Clip:
    """A row as the page shows it."""

    row: Row
    video: Medium | None
    audio: Medium | None
    qualities: list[tuple[str, float | None]]
    scores: list[Placed]
    """Raw scores; the range of a score is that of the store's rows."""
    details: list[tuple[str, str]]
    changed: frozenset[str]
    """Which of `video` and `audio` differ from the original's."""


@dataclass(frozen=True)
class Family:
    """An original and its variants."""

    first: Clip
    variants: list[Clip]
    labels: list[Placed]
    """The original's labels; their range is the corpus' scale."""


class MediaFolder:
    """Writes media and their previews into the report's folder, each content once."""

    def __init__(self, out: Path) -> None:
        self.folder = out / FOLDER
        self.folder.mkdir(parents=True, exist_ok=True)
        self._media: dict[str, Medium] = {}

    def add(self, modality: str, content: bytes) -> Medium:
        """The file for this content, with its previews."""
        name = hashlib.sha256(content).hexdigest()[:_NAME_DIGITS]
        if name not in self._media:
            src = self._write(name + SUFFIXES[modality], content)
            try:
                drawn, size = _previews(modality, content)
                previews = {
                    kind.partition(".")[0]: self._write(f"{name}-{kind}", drawn[kind]) for kind in drawn
                }
                self._media[name] = Medium(src, previews, size, "")
            except MediaError as error:
                self._media[name] = Medium(src, {}, None, str(error))
        return self._media[name]

    def sweep(self) -> None:
        """Remove the files of an earlier report that this one does not show."""
        for path in self.folder.iterdir():
            if _OURS.fullmatch(path.name) and path.name[:_NAME_DIGITS] not in self._media:
                path.unlink()

    def _write(self, name: str, content: bytes) -> str:
        (self.folder / name).write_bytes(content)
        return f"{FOLDER}/{name}"


def _previews(modality: str, content: bytes) -> tuple[dict[str, bytes], tuple[int, int] | None]:
    if modality == "audio":
        return {"spectrogram.png": spectrogram(read_audio(content))}, None
    # A few frames over the whole time are enough for a poster and a strip, however long the clip is.
    rate = STRIP_FRAMES / probe(content).duration_s
    frames = read_video(content, fps=rate, max_side=POSTER_SIDE).frames
    poster = Image.fromarray(frames[len(frames) // 2])
    images = {"poster.jpg": jpeg(poster), "strip.jpg": jpeg(strip(frames, STRIP_FRAMES, STRIP_HEIGHT))}
    return images, poster.size


def select(reader: StoreReader, limit: int | None) -> list[list[int]]:
    """Positions of the rows to show, one list for each original and its variants.

    Originals with variants come first, otherwise the store's order holds. `limit` counts originals.
    """
    families: dict[str, list[int]] = {}
    for index, source in enumerate(reader.table["source_id"].to_pylist()):
        families.setdefault(source, []).append(index)
    return sorted(families.values(), key=lambda rows: len(rows) == 1)[:limit]


def families(reader: StoreReader, chosen: list[list[int]], media: MediaFolder) -> Iterator[Family]:
    """The chosen rows, one family at a time; their media are written on the way."""
    ranges = {}
    for name in reader.scores:
        values = [value for value in map(_number, reader.table[name].to_pylist()) if value is not None]
        ranges[name] = min(values, default=math.nan), max(values, default=math.nan)
    for indices in chosen:
        rows = sorted((reader.row(index) for index in indices), key=lambda row: row["kind"] != "original")
        contents = {name: rows[0][name]["bytes"] if rows[0][name] else None for name in MEDIA}
        first, *variants = (_clip(row, contents, ranges, media) for row in rows)
        scale = SCALES.get(first.row["scale"], (math.nan, math.nan))
        labels = [_placed(name, first.row[name], scale) for name in LABELS]
        yield Family(first, variants, [label for label in labels if label.value is not None])


def _clip(
    row: Row, original: dict[str, bytes | None], ranges: dict[str, tuple[float, float]], media: MediaFolder
) -> Clip:
    """A row as it is shown; a variant without video or audio is shown with its original's."""
    own = {name: row.pop(name) for name in MEDIA}
    contents = {name: own[name]["bytes"] if own[name] else original[name] for name in MEDIA}
    shown = {name: media.add(name, content) for name, content in contents.items() if content}
    return Clip(
        row=row,
        video=shown.get("video"),
        audio=shown.get("audio"),
        qualities=[(name.removeprefix("quality_"), _number(row[name])) for name in QUALITIES],
        scores=[_placed(name, row[name], ranges[name]) for name in ranges],
        details=flat(provenance(row)),
        changed=frozenset(name for name in MEDIA if contents[name] != original[name]),
    )


def _placed(name: str, value: float | None, bounds: tuple[float, float]) -> Placed:
    value, (low, high) = _number(value), bounds
    place = None
    if value is not None and not math.isnan(low):
        place = (min(max(value, low), high) - low) / (high - low) if high > low else 0.5
    return Placed(name.removeprefix("score_").removeprefix("label_"), value, place)


def _number(value: float | None) -> float | None:
    """A finite number, or None: scores may be missing or NaN."""
    return value if value is not None and math.isfinite(value) else None

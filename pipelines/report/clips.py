"""The rows of a report: each with its media as files beside the page, and the numbers it shows.

Media files are named by the SHA-256 of their content, never by an id. So what an original and its
variants share is there once, and no id has to be a file name.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pipelines.media import MediaError, probe, read_audio, read_video
from pipelines.report.pictures import POSTER_SIDE, STRIP_FRAMES, poster, spectrogram, strip_jpeg
from pipelines.report.summary import flat
from pipelines.row import MEDIA, QUALITIES, SCALES, Row, provenance
from pipelines.store import StoreReader

FOLDER = "media"
LABELS = ("label", "label_text", "label_audio", "label_video")
_NAME_DIGITS = 20
_OURS = re.compile(rf"[0-9a-f]{{{_NAME_DIGITS}}}(-\w+)?\.(mp4|flac|jpg|png)")


@dataclass(frozen=True)
class Medium:
    """A media file of the page and the pictures that stand for it, as addresses relative to the page."""

    src: str
    pictures: dict[str, str]
    """`poster` and `strip` of a video, `spectrogram` of a sound; none where it cannot be decoded."""
    size: tuple[int, int] | None
    """Width and height of a picture that can be decoded, in proportion."""
    problem: str
    """Why it cannot be decoded; empty where it can."""


@dataclass(frozen=True)
class Score:
    """A raw score, and where it lies among the store's."""

    name: str
    value: float | None
    place: float | None
    """0 at the lowest of the store, 1 at the highest."""


@dataclass(frozen=True)
class Label:
    """A label of the original, and its place on the corpus' scale from 0 to 1 where that is known."""

    name: str
    value: float
    place: float | None


@dataclass(frozen=True)
class Clip:
    """A row as the page shows it."""

    row: Row
    video: Medium | None
    audio: Medium | None
    qualities: list[tuple[str, float | None]]
    scores: list[Score]
    details: list[tuple[str, str]]
    changed: frozenset[str]
    """Which of `video` and `audio` differ from the original's."""


@dataclass(frozen=True)
class Family:
    """An original and its variants."""

    first: Clip
    variants: list[Clip]
    labels: list[Label]


class MediaFolder:
    """Writes media and their pictures into the report's folder, each content once."""

    def __init__(self, out: Path) -> None:
        self.folder = out / FOLDER
        self.folder.mkdir(parents=True, exist_ok=True)
        self._media: dict[str, Medium] = {}

    def add(self, modality: str, content: bytes) -> Medium:
        """The file for this content, with its pictures."""
        name = hashlib.sha256(content).hexdigest()[:_NAME_DIGITS]
        if name not in self._media:
            suffix, draw = _DRAWN[modality]
            src = self._write(name + suffix, content)
            try:
                drawn, size = draw(content)
                pictures = {kind: self._write(f"{name}-{kind}", drawn[kind]) for kind in drawn}
                pictures = {kind.partition(".")[0]: address for kind, address in pictures.items()}
                self._media[name] = Medium(src, pictures, size, "")
            except MediaError as error:
                self._media[name] = Medium(src, {}, None, str(error))
        return self._media[name]

    def sweep(self) -> None:
        """Remove what an earlier report left and this one does not show."""
        for path in self.folder.iterdir():
            if _OURS.fullmatch(path.name) and path.name[:_NAME_DIGITS] not in self._media:
                path.unlink()

    def _write(self, name: str, content: bytes) -> str:
        (self.folder / name).write_bytes(content)
        return f"{FOLDER}/{name}"


Drawn = tuple[dict[str, bytes], tuple[int, int] | None]


def _draw_video(content: bytes) -> Drawn:
    # A few frames over the whole time do for a poster and a strip, however long the clip is.
    rate = STRIP_FRAMES / probe(content).duration_s
    frames = read_video(content, fps=rate, max_side=POSTER_SIDE).frames
    pictures = {"poster.jpg": poster(frames), "strip.jpg": strip_jpeg(frames)}
    return pictures, (frames.shape[2], frames.shape[1])


def _draw_audio(content: bytes) -> Drawn:
    return {"spectrogram.png": spectrogram(read_audio(content))}, None


_DRAWN: dict[str, tuple[str, Callable[[bytes], Drawn]]] = {
    "video": (".mp4", _draw_video),
    "audio": (".flac", _draw_audio),
}


def select(reader: StoreReader, limit: int | None) -> list[list[int]]:
    """Positions of the rows to show, an original's and its variants' together.

    Those with variants come first, as they are what a report is for; within that the store's order
    holds. `limit` counts originals.
    """
    families: dict[str, list[int]] = {}
    for index, source in enumerate(reader.table["source_id"].to_pylist()):
        families.setdefault(source, []).append(index)
    return sorted(families.values(), key=lambda rows: len(rows) == 1)[:limit]


def families(reader: StoreReader, chosen: list[list[int]], media: MediaFolder) -> Iterator[Family]:
    """The chosen rows, one family at a time, their media written as they are met."""
    ranges = {name: _range(reader, name) for name in reader.scores}
    for indices in chosen:
        rows = sorted((reader.row(index) for index in indices), key=lambda row: row["kind"] != "original")
        contents = {name: rows[0][name]["bytes"] if rows[0][name] else None for name in MEDIA}
        first, *variants = (_clip(row, contents, ranges, media) for row in rows)
        yield Family(first, variants, list(_labels(first.row)))


def _clip(
    row: Row, original: dict[str, bytes | None], ranges: dict[str, tuple[float, float]], media: MediaFolder
) -> Clip:
    """A row as it is shown; a variant that holds no picture or sound is shown with its original's."""
    own = {name: row.pop(name) for name in MEDIA}
    contents = {name: own[name]["bytes"] if own[name] else original[name] for name in MEDIA}
    shown = {name: media.add(name, content) for name, content in contents.items() if content}
    return Clip(
        row=row,
        video=shown.get("video"),
        audio=shown.get("audio"),
        qualities=[(name.removeprefix("quality_"), _number(row[name])) for name in QUALITIES],
        scores=[_score(name, row[name], ranges[name]) for name in ranges],
        details=flat(provenance(row)),
        changed=frozenset(name for name in MEDIA if contents[name] != original[name]),
    )


def _labels(row: Row) -> Iterator[Label]:
    low, high = SCALES.get(row["scale"], (math.nan, math.nan))
    for name in LABELS:
        value = _number(row[name])
        if value is not None:
            within = min(max(value, low), high) if low < high else math.nan
            yield Label(name.removeprefix("label_"), value, _number((within - low) / (high - low)))


def _range(reader: StoreReader, name: str) -> tuple[float, float]:
    values = [value for value in map(_number, reader.table[name].to_pylist()) if value is not None]
    return min(values, default=math.nan), max(values, default=math.nan)


def _score(name: str, value: float | None, bounds: tuple[float, float]) -> Score:
    value, (low, high) = _number(value), bounds
    place = None if value is None else (value - low) / (high - low) if high > low else 0.5
    return Score(name.removeprefix("score_"), value, place)


def _number(value: float | None) -> float | None:
    """A finite number, or None: scores may be missing or NaN."""
    return value if value is not None and math.isfinite(value) else None

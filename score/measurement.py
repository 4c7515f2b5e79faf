"""Measures rows: decodes a variant and its source once, and takes every signal from them.

An original is measured too: its pooled features are what the predictor is fitted on, and if it is
in the calibration's sample, so are the good and bad pairs that are made of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.atomic import write_table
from pipelines.errors import RowError, RunError
from pipelines.media import MediaError, encode_video, read_video
from pipelines.row import Row, row_seed
from pipelines.runner import Stage, Task
from score.media.audio import SAMPLING_RATE
from score.media.clip import Clip, analysis_fps, as_seen, read_picture, read_sound
from score.media.video import MAX_SIDE, MODEL_SIDE, Picture, Pixels, resized
from score.models.observers import Observers
from score.signals.catalogue import SIGNALS, Modality, column, judged, measure
from score.voice_perturbation import another_voice

if TYPE_CHECKING:
    import pyarrow

FILE = "measures.parquet"
"""What was measured of each row, beside the store, which has the signals alone: a run that adds variants
measures those, and calibrates with what is here of the others."""
VERSION = 6
"""Of how clips are decoded and pairs made: a change raises it, and all rows are measured again. A change to a
signal raises that signal's own version."""
CACHED = 4  # clips kept decoded: a source's variants come one after the other
SHORTER, SHORTER_S = 0.1, 0.5  # share and seconds by which a variant may differ in length from its source
REENCODED_SIDE = 512  # pixels; larger pictures are shrunk before they are encoded again
SPOILED_SCALE = 4  # a spoiled picture keeps one in so many pixels a side
SPOILED_DB = 10.0  # signal-to-noise ratio of a spoiled sound


class ScoreError(RowError):
    """A row that cannot be judged against its source. The message says why."""


def schema() -> pyarrow.Schema:
    """The columns of a result: signals, pooled features, and the pairs made for the calibration."""
    import pyarrow

    number = pyarrow.list_(pyarrow.float32())
    by_name = pyarrow.map_(pyarrow.string(), pyarrow.float32())
    case = pyarrow.struct([("case", pyarrow.string()), ("signals", by_name), ("features", number)])
    signals = [(column(name), pyarrow.float32()) for name in SIGNALS]
    return pyarrow.schema([*signals, ("features", number), ("cases", pyarrow.list_(case))])


class ScoreVariants:
    """Measures rows of a training split.

    A call takes rows with two keys more than a store's: `source`, a variant's original (None for an
    original), and `partner`, another clip to make mismatched pairs with (None outside the
    calibration's sample).

    Args:
        observers: The pre-trained models whose signals are measured too.

    Raises:
        MediaError: If a track is corrupt.
        ScoreError: If a variant lacks the track that it replaces, or does not go with its source.
    """

    def __init__(self, observers: Observers | None = None) -> None:
        self._observers = observers or Observers()
        self._max_side = MODEL_SIDE if self._observers.sees else MAX_SIDE
        self._clips: dict[str, Clip] = {}

    def __call__(self, rows: Sequence[Row]) -> list[Row]:
        return [self._original(row) if row["kind"] == "original" else self._variant(row) for row in rows]

    def _original(self, row: Row) -> Row:
        clip = self._clip(row)
        cases = [
            {
                "case": name,
                "signals": list(measure(made, clip, modalities, self._observers).items()),
                "features": made.features.tolist(),
            }
            for name, made, modalities in (self._pairs(row, clip) if row["partner"] else ())
        ]
        return result(dict.fromkeys(SIGNALS, float("nan")), clip, cases)

    def _variant(self, row: Row) -> Row:
        if row["source"] is None:
            raise ScoreError(f"{row['id']}: its source {row['source_id']} is not among the store's originals")
        modalities = judged(row)
        for track in (modality for modality in modalities if modality != "cross"):
            for which in (row, row["source"]):
                if which[track] is None:
                    raise ScoreError(
                        f"{which['id']}: found no {track}, a variant of kind {row['kind']} needs one"
                    )
        source = self._clip(row["source"])
        clip = _compared(row, source, max_side=self._max_side)
        return result(measure(clip, source, modalities, self._observers), clip, [])

    def _clip(self, row: Row) -> Clip:
        """An original, decoded once for all its variants."""
        if row["id"] not in self._clips:
            if len(self._clips) >= CACHED:
                self._clips.pop(next(iter(self._clips)))
            picture = read_picture(row, analysis_fps(row), max_side=self._max_side)
            self._clips[row["id"]] = Clip(picture, read_sound(row))
        return self._clips[row["id"]]

    def _pairs(self, row: Row, clip: Clip) -> Iterator[tuple[str, Clip, Sequence[Modality]]]:
        """What is made of a clip to calibrate with, its name, and what is judged of it."""
        seed = row_seed(0, row["id"])
        if clip.picture is not None:
            again = reencoded(row, clip.picture, max_side=self._max_side)
            yield "encoded_again", Clip(again, clip.sound), ("video", "cross")
        if clip.sound is not None:
            voice = replace(clip.sound, samples=another_voice(clip.sound.samples, seed))
            yield "another_voice", Clip(clip.picture, voice), ("audio", "cross")
        yield "spoiled", spoiled(clip, seed), ("video", "audio")
        try:
            partner = self._clip(row["partner"])
        except MediaError:
            return  # it is quarantined under its own id
        if clip.picture is not None and partner.picture is not None:
            other = resized(partner.picture, *clip.picture.frames.shape[1:3])
            yield "mismatched_video", Clip(other, clip.sound), ("video", "cross")
        if clip.sound is not None and partner.sound is not None:
            yield "mismatched_audio", Clip(clip.picture, partner.sound), ("audio", "cross")


def result(signals: dict[str, float], clip: Clip, cases: list[dict[str, Any]]) -> Row:
    """What is kept of a measured row."""
    scores = {column(name): None if np.isnan(value) else value for name, value in signals.items()}
    return scores | {"features": clip.features.tolist(), "cases": cases}


def collect(stage: Stage, tasks: Sequence[Task]) -> dict[int, Row]:
    """The results of all tasks that are done, by the position of their row in the store that was read.

    Raises:
        RunError: If the file that holds those of an earlier run is gone.
    """
    kept = _read(stage.directory)
    done = [task for task in tasks if stage.parts.done(task.key)]
    # A signal that was not measured then, since it is of a model or was not there, could not be told.
    missing = dict.fromkeys(column(name) for name in SIGNALS)
    results = [missing | (kept.get(task.key) or stage.parts.get(task.key)) for task in done]
    if any("features" not in result for result in results):
        raise RunError(
            f"{stage.directory / FILE}: lacks rows that the store beside it has; remove {stage.directory}"
            " to measure them again"
        )
    _write(stage.directory, [{"key": task.key} | row for task, row in zip(done, results, strict=True)])
    return {task.payload[0]: result for task, result in zip(done, results, strict=True)}


def _read(directory: Path) -> dict[str, Row]:
    import pyarrow.parquet

    path = directory / FILE
    rows = pyarrow.parquet.read_table(path).to_pylist() if path.exists() else []
    return {row.pop("key"): row for row in rows}


def _write(directory: Path, rows: list[Row]) -> None:
    import pyarrow

    columns = schema().insert(0, pyarrow.field("key", pyarrow.string()))
    write_table(directory / FILE, pyarrow.Table.from_pylist(rows, schema=columns))


def reencoded(row: Row, picture: Picture, *, max_side: int = MAX_SIDE) -> Picture:
    """The row's picture through the encoder that every row goes through, at nearly its own size."""
    large = read_video(row["video"]["bytes"], fps=picture.fps, max_side=REENCODED_SIDE)
    video = read_video(encode_video(large.frames, large.fps), fps=picture.fps, max_side=max_side)
    return resized(as_seen(video.frames, picture.fps, max_side=max_side), *picture.frames.shape[1:3])


def spoiled(clip: Clip, seed: int) -> Clip:
    """The clip with its picture blurred and the frames shuffled, and its sound in white noise."""
    picture = None if clip.picture is None else spoil(clip.picture, seed)
    if clip.sound is None:
        return Clip(picture, None)
    samples = clip.sound.samples
    level = float(np.sqrt((samples * samples).mean())) / 10 ** (SPOILED_DB / 20)
    noise = np.random.default_rng(seed).normal(0, level, len(samples))
    return Clip(picture, replace(clip.sound, samples=np.clip(samples + noise, -1, 1).astype(np.float32)))


def spoil(picture: Picture, seed: int) -> Picture:
    """The picture blurred and its frames shuffled."""
    frames = _spoiled_frames(picture.frames, seed)
    if picture.pixels is None:
        return Picture(frames, picture.fps)
    return Picture(frames, picture.fps, Pixels(_spoiled_frames(picture.pixels.frames, seed), picture.fps))


def _spoiled_frames(frames: np.ndarray, seed: int) -> np.ndarray:
    height, width = frames.shape[1:3]
    small = resized(Picture(frames, 0.0), max(1, height // SPOILED_SCALE), max(1, width // SPOILED_SCALE))
    order = np.random.default_rng(seed).permutation(len(frames))
    return resized(small, height, width).frames[order]


def _compared(row: Row, source: Clip, *, max_side: int) -> Clip:
    """A variant at its source's rate and size; a track that is its source's is not decoded again."""
    picture, sound = source.picture, source.sound
    if row["video"] != row["source"]["video"]:
        picture = read_picture(row, analysis_fps(row["source"]), max_side=max_side)
        if picture is not None and source.picture is not None:
            picture = resized(picture, *source.picture.frames.shape[1:3])
            _check_length(row, "video", len(picture) / picture.fps, len(source.picture) / source.picture.fps)
    if row["audio"] != row["source"]["audio"]:
        sound = read_sound(row)
        if sound is not None and source.sound is not None:
            durations = (len(heard.samples) / SAMPLING_RATE for heard in (sound, source.sound))
            _check_length(row, "audio", *durations)
    return Clip(picture, sound)


def _check_length(row: Row, track: str, found_s: float, wanted_s: float) -> None:
    allowed_s = max(SHORTER_S, SHORTER * wanted_s)
    if abs(found_s - wanted_s) > allowed_s:
        raise ScoreError(
            f"{row['id']}: its {track} lasts {found_s:.2f} s, its source's {wanted_s:.2f} s;"
            f" they can be compared if they differ by at most {allowed_s:.2f} s"
        )

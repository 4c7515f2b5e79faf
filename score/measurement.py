"""Measures rows: decodes a variant and its source once, and computes every signal from them.

An original is measured too: the predictor is fitted on its pooled features, and if it is in the
calibration sample, good and bad pairs are made from it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from pipelines.atomic import DamagedFile, write_table
from pipelines.errors import RowError
from pipelines.finished_tasks import WORKS, committed_tasks
from pipelines.media import MediaError, encode_video, read_video
from pipelines.row import Row, row_seed
from pipelines.runner import Stage, Task
from pipelines.store_files.parquet import parsing, read_table
from score.media.alignment import aligned
from score.media.audio import SAMPLING_RATE, AudioTrack
from score.media.clip import Clip, analysis_fps, decode_audio, decode_video, video_track
from score.media.video import MAX_SIDE, MODEL_SIDE, resized
from score.models.feature_extractors import VIDEO_MODELS, FeatureExtractors
from score.perturbation.corrupted import corrupted
from score.perturbation.picture import another_look
from score.perturbation.voice import another_voice
from score.signals.catalogue import SIGNALS, Modality, column, judged, measure

if TYPE_CHECKING:
    import pyarrow

logger = logging.getLogger(__name__)

FILE = "measures.parquet"
"""The results of all measured rows, beside the store, which holds the signals alone. A run that adds
variants measures those and takes the other rows' results from here."""
VERSION = 10
"""Version of how clips are decoded and pairs made. Raising it measures all rows again; a changed signal has
a version of its own."""
CACHED = 4  # decoded clips that are kept: the variants of a source follow each other
MAX_LENGTH_DIFFERENCE, MAX_LENGTH_DIFFERENCE_S = 0.1, 0.5  # as a share of the source's length, and in seconds
REENCODED_SIDE = 512  # pixels; larger frames are shrunk before they are encoded again

Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True)
class Comparison(Generic[Item]):
    """A row to measure and the rows it is compared with; in a task, their positions in the store."""

    row: Item
    source: Item | None = None
    """A variant's original; None for an original, or if the store lacks it."""
    partner: Item | None = None
    """Another clip, for mismatched pairs; None outside the calibration sample."""


class ScoreError(RowError):
    """A row that cannot be compared with its source. The message says why."""


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

    Args:
        feature_extractors: The pre-trained models whose signals are measured too.

    Raises:
        MediaError: If a track is corrupt.
        ScoreError: If a variant lacks the track that it replaces, or cannot be compared with its source.
    """

    def __init__(self, feature_extractors: FeatureExtractors | None = None) -> None:
        self._feature_extractors = feature_extractors or {}
        self._max_side = MODEL_SIDE if {*VIDEO_MODELS} & {*self._feature_extractors} else MAX_SIDE
        self._clips: dict[str, Clip] = {}

    def __call__(self, comparisons: Sequence[Comparison[Row]]) -> list[Row]:
        return [
            self._original(each) if each.row["kind"] == "original" else self._variant(each)
            for each in comparisons
        ]

    def _original(self, comparison: Comparison[Row]) -> Row:
        clip = self._clip(comparison.row)
        pairs = self._pairs(comparison.row, comparison.partner, clip) if comparison.partner else ()
        cases = []
        for name, made, modalities in pairs:
            shown = matched(made, clip)
            signals = measure(*shown, modalities, self._feature_extractors)
            features = _features(*shown, clip).tolist()
            cases.append({"case": name, "signals": list(signals.items()), "features": features})
        return _result(dict.fromkeys(SIGNALS, float("nan")), clip.features, cases)

    def _variant(self, comparison: Comparison[Row]) -> Row:
        row, source = comparison.row, comparison.source
        if source is None:
            raise ScoreError(f"{row['id']}: its source {row['source_id']} is not among the store's originals")
        modalities = judged(row)
        for track in (modality for modality in modalities if modality != "cross"):
            for each in (row, source):
                if each[track] is None:
                    raise ScoreError(
                        f"{each['id']}: found no {track}, a variant of kind {row['kind']} needs one"
                    )
        source_clip = self._clip(source)
        clip = _decode_variant(row, source, source_clip, max_side=self._max_side)
        shown = matched(clip, source_clip)
        signals = measure(*shown, modalities, self._feature_extractors)
        return _result(signals, _features(*shown, source_clip), [])

    def _clip(self, row: Row) -> Clip:
        """An original, decoded once for all its variants."""
        if row["id"] not in self._clips:
            if len(self._clips) >= CACHED:
                self._clips.pop(next(iter(self._clips)))
            video = decode_video(row, analysis_fps(row), max_side=self._max_side)
            self._clips[row["id"]] = Clip(video, decode_audio(row))
        return self._clips[row["id"]]

    def _pairs(
        self, row: Row, partner_row: Row, clip: Clip
    ) -> Iterator[tuple[str, Clip, Sequence[Modality]]]:
        """Each case made from a clip to calibrate with: its name, its clip, and the modalities to measure."""
        seed = row_seed(0, row["id"])
        if clip.video is not None:
            # Through the encoder that every row goes through, at nearly its own size.
            fps, size = clip.video.fps, clip.video.frames.shape[1:3]
            large = read_video(row["video"]["bytes"], fps=fps, max_side=REENCODED_SIDE)
            looks = {"encoded_again": large.frames, "another_look": another_look(large.frames, seed)}
            for name, frames in looks.items():
                small = read_video(encode_video(frames, large.fps), fps=fps, max_side=self._max_side)
                again = resized(video_track(small.frames, fps, max_side=self._max_side), *size)
                yield name, Clip(again, clip.audio), ("video", "cross")
        if clip.audio is not None:
            voice = replace(clip.audio, samples=another_voice(clip.audio.samples, seed))
            yield "another_voice", Clip(clip.video, voice), ("audio", "cross")
        yield "corrupted", corrupted(clip, seed), ("video", "audio")
        try:
            partner = self._clip(partner_row)
        except MediaError:
            return  # it is quarantined under its own id
        if clip.video is not None and partner.video is not None:
            other = resized(partner.video, *clip.video.frames.shape[1:3])
            yield "mismatched_video", Clip(other, clip.audio), ("video", "cross")
        if clip.audio is not None and partner.audio is not None:
            yield "mismatched_audio", Clip(clip.video, partner.audio), ("audio", "cross")


def matched(variant: Clip, source: Clip) -> tuple[Clip, Clip]:
    """A variant and its source with what both pictures show at the same place."""
    if variant.video is None or source.video is None or variant.video is source.video:
        return variant, source
    videos = aligned(variant.video, source.video)
    if videos[0] is variant.video:
        return variant, source
    return Clip(videos[0], variant.audio), Clip(videos[1], source.audio)


def _features(variant: Clip, shown: Clip, source: Clip) -> np.ndarray:
    """The source's pooled features and what a variant changes in them.

    Args:
        variant: The variant, with what both pictures show.
        shown: The source, with what both pictures show.
        source: The source as a whole.
    """
    changed = variant.features if shown is source else source.features + (variant.features - shown.features)
    # A track that the source alone lacks has nothing to be compared with.
    return np.where(np.isfinite(changed), changed, variant.features)


def _result(signals: dict[str, float], features: np.ndarray, cases: list[dict[str, Any]]) -> Row:
    """What is stored of a measured row; NaN becomes null."""
    scores = {column(name): None if np.isnan(value) else value for name, value in signals.items()}
    return scores | {"features": features.tolist(), "cases": cases}


def collect(stage: Stage, tasks: Sequence[Task]) -> dict[int, Row]:
    """The results of all finished tasks, by the position of their row in the input store; also written."""
    import pyarrow

    path = stage.directory / FILE
    kept = _kept(path) if path.exists() else {}
    done = [task for task in tasks if stage.parts.done(task.key)]
    # Signals that did not exist then, or whose model was not set, are null.
    missing = dict.fromkeys(column(name) for name in SIGNALS)
    results = [missing | (kept.get(task.key) or stage.parts.get(task.key)) for task in done]
    columns = schema().insert(0, pyarrow.field("key", pyarrow.string()))
    rows = [{"key": task.key} | result for task, result in zip(done, results, strict=True)]
    write_table(path, pyarrow.Table.from_pylist(rows, schema=columns))
    return {task.payload.row: result for task, result in zip(done, results, strict=True)}


def forget_unless_kept(directory: Path, tasks: Sequence[Task]) -> None:
    """Let all rows be measured again if the measures beside a scored store are lost.

    Call it before the stage looks up what is done.
    """
    path = directory / FILE
    done = committed_tasks(directory).keys() & {task.key for task in tasks}
    try:
        lost = "" if done <= _kept(path).keys() else f"{path}: lacks rows of the store"
    except FileNotFoundError:
        lost = f"{path}: missing"
    except DamagedFile as error:
        lost = str(error)
    if done and lost:
        logger.warning("%s; all rows are measured again", lost)
        (directory / WORKS).unlink(missing_ok=True)
    if lost:
        path.unlink(missing_ok=True)


def _kept(path: Path) -> dict[str, Row]:
    """The results of an earlier run by the keys of their tasks.

    Raises:
        DamagedFile: If the file is not what was written.
    """
    with parsing(path):
        rows = read_table(path).to_pylist()
    return {row.pop("key"): row for row in rows}


def _decode_variant(row: Row, source: Row, source_clip: Clip, *, max_side: int) -> Clip:
    """A variant at its source's frame rate and size; a track shared with the source is not decoded again."""
    video, audio = source_clip.video, source_clip.audio
    if row["video"] != source["video"]:
        video = decode_video(row, analysis_fps(source), max_side=max_side)
        if video is not None and source_clip.video is not None:
            video = resized(video, *source_clip.video.frames.shape[1:3])
            _check_length(row, "video", *(len(track) / track.fps for track in (video, source_clip.video)))
    if row["audio"] != source["audio"]:
        audio = decode_audio(row)
        if audio is not None and source_clip.audio is not None:
            tracks: tuple[AudioTrack, ...] = (audio, source_clip.audio)
            _check_length(row, "audio", *(len(track.samples) / SAMPLING_RATE for track in tracks))
    return Clip(video, audio)


def _check_length(row: Row, track: str, length_s: float, source_s: float) -> None:
    allowed_s = max(MAX_LENGTH_DIFFERENCE_S, MAX_LENGTH_DIFFERENCE * source_s)
    if abs(length_s - source_s) > allowed_s:
        raise ScoreError(
            f"{row['id']}: its {track} lasts {length_s:.2f} s, its source's {source_s:.2f} s;"
            f" they can be compared if they differ by at most {allowed_s:.2f} s"
        )

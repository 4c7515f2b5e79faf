"""What is measured: the rows of the training split, and which originals the calibration pairs up."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines.atomic import read_json_lines
from pipelines.errors import RunError
from pipelines.finished_tasks import committed_tasks
from pipelines.row import MEDIA, Row, digest
from pipelines.runner import Task, task_key
from pipelines.store import StoreReader
from score.measurement import VERSION
from score.media.video import MODEL_SIDE
from score.models.observers import SEEN
from score.signals.catalogue import MODALITIES, judged, versions


def plan(
    reader: StoreReader, *, calibration_clips: int, seed: int, models: Mapping[str, str] | None = None
) -> list[Task]:
    """The tasks of a store, in its order; a payload is the positions of the row, its source and its partner.

    Args:
        reader: The store.
        calibration_clips: Size of the calibration's sample.
        seed: The run's.
        models: What tells the pre-trained models apart that are asked, by setting.

    Raises:
        RunError: If a variant is in another split than train.
    """
    rows = reader.table.to_pylist()
    strays = [row["id"] for row in rows if row["kind"] != "original" and row["split"] != "train"]
    if strays:
        raise RunError(
            f"{reader.directory}: {len(strays)} variants are not in the split train, the first is"
            f" {strays[0]}; augment the training split alone"
        )
    training = [index for index, row in enumerate(rows) if row["split"] == "train"]
    originals = [index for index in training if rows[index]["kind"] == "original"]
    index_of = {rows[index]["id"]: index for index in originals}
    partners = pair(originals, rows, calibration_clips)
    tasks = []
    for index in training:
        row = rows[index]
        source = None if row["kind"] == "original" else index_of.get(row["source_id"])
        partner = partners.get(index)
        inputs = [[rows[i]["id"], rows[i]["generator"]] for i in (index, source, partner) if i is not None]
        settings = {"measuring": VERSION} | _measured(row, partner is not None, models or {})
        key = task_key(row["id"], inputs, settings, seed)
        tasks.append(Task(row["id"], key, (index, source, partner)))
    return tasks


def _measured(row: Row, in_sample: bool, models: Mapping[str, str]) -> dict[str, Any]:
    """The signals and models that a row's result depends on."""
    asked = judged(row) or (MODALITIES if in_sample else ())
    own = {name: model for name, model in models.items() if ("video" if name in SEEN else "audio") in asked}
    side = {"decoded_px": MODEL_SIDE} if any(name in SEEN for name in models) else {}
    return {"signals": versions(asked, models), "models": own} | side


def pair(originals: list[int], rows: list[Row], clips: int) -> dict[int, int]:
    """For each original of the calibration's sample, another clip with picture or sound to put in its place.

    That is the next one of another group that has all its tracks; where none has, the one with the most.
    Rows of text alone have nothing to compare and are left out.

    Args:
        originals: Positions of the training split's originals.
        rows: Every row of the store.
        clips: Size of the sample, drawn by the ids' digests.
    """
    tracks = {at: {name for name in MEDIA if rows[at][f"has_{name}"]} for at in originals}
    originals = [at for at in originals if tracks[at]]
    position = {index: at for at, index in enumerate(originals)}
    partners = {}
    for index in sorted(originals, key=lambda index: digest(rows[index]["id"]))[:clips]:
        others = originals[position[index] + 1 :] + originals[: position[index]]
        strangers = [other for other in others if rows[other]["group"] != rows[index]["group"]]
        # The first of those that have the most of the clip's tracks.
        partner = max(strangers or others, key=lambda other: len(tracks[index] & tracks[other]), default=None)
        if partner is not None:
            partners[index] = partner
    return partners


def load(reader: StoreReader, task: Task) -> Row:
    """What `ScoreVariants` takes for a task: its row, with its source and its partner."""
    index, source, partner = task.payload
    found = {
        name: None if at is None else reader.row(at)
        for name, at in (("source", source), ("partner", partner))
    }
    return reader.row(index) | found


def finished(directory: Path) -> list[Task]:
    """The tasks behind a committed store, done and failed, as its records have them."""
    failures = read_json_lines(directory / "failures.jsonl")
    done = [Task(row_id, key) for key, row_id in committed_tasks(directory).items()]
    return done + [Task(failure["id"], failure["key"]) for failure in failures]

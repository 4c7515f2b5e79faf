"""The rows to measure, all of the training split, and the pairs of originals for the calibration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipelines.errors import RunError, listed
from pipelines.row import KINDS, MEDIA, Row, digest
from pipelines.runner import Task, task_key
from pipelines.store import StoreReader
from score.measurement import VERSION, Comparison
from score.media.video import MODEL_SIDE
from score.models.feature_extractors import VIDEO_MODELS
from score.signals.catalogue import MODALITIES, judged, versions


def plan(
    reader: StoreReader, *, calibration_clips: int, seed: int, models: Mapping[str, str] | None = None
) -> list[Task]:
    """The tasks of a store, in its order; a payload is a `Comparison` of positions in the store.

    Args:
        reader: The store.
        calibration_clips: Number of originals to calibrate with.
        seed: Seed of the run.
        models: Identity of each pre-trained model in use, by setting.

    Raises:
        RunError: If a variant is in another split than train, or of an unknown kind.
    """
    rows = reader.table.to_pylist()
    unknown = {row["id"]: row["kind"] for row in rows if row["kind"] not in KINDS}
    if unknown:
        raise RunError(
            f"{reader.directory}: {len(unknown)} rows are of an unknown kind ({listed(unknown)}:"
            f" {', '.join(sorted(set(map(str, unknown.values()))))}); takes {', '.join(KINDS)}"
        )
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
        payload = Comparison(row=index, source=source, partner=partners.get(index))
        used = [rows[at] for at in vars(payload).values() if at is not None]
        inputs = [[each["id"], each["generator"]] for each in used]
        settings = _key_settings(row, payload.partner is not None, models or {})
        tasks.append(Task(row["id"], task_key(row["id"], inputs, settings, seed), payload))
    return tasks


def _key_settings(row: Row, in_sample: bool, models: Mapping[str, str]) -> dict[str, Any]:
    """The versions of code, signals and models that a row's result depends on."""
    modalities = judged(row) or (MODALITIES if in_sample else ())
    own = {
        name: model
        for name, model in models.items()
        if ("video" if name in VIDEO_MODELS else "audio") in modalities
    }
    side = {"decoded_px": MODEL_SIDE} if any(name in VIDEO_MODELS for name in models) else {}
    return {"measuring": VERSION, "signals": versions(modalities, models), "models": own} | side


def pair(originals: list[int], rows: list[Row], clips: int) -> dict[int, int]:
    """For each original in the calibration sample, another clip whose tracks can replace its own.

    That is the next one of another group that has all its tracks, or else most of them. Rows with text
    only are left out.

    Args:
        originals: Positions of the training split's originals.
        rows: Every row of the store.
        clips: Size of the sample, drawn by digest of the id.
    """
    tracks = {at: {name for name in MEDIA if rows[at][f"has_{name}"]} for at in originals}
    originals = [at for at in originals if tracks[at]]
    position = {index: at for at, index in enumerate(originals)}
    partners = {}
    for index in sorted(originals, key=lambda index: digest(rows[index]["id"]))[:clips]:
        others = originals[position[index] + 1 :] + originals[: position[index]]
        strangers = [other for other in others if rows[other]["group"] != rows[index]["group"]]
        # `max` returns the first of several with equally many tracks.
        partner = max(strangers or others, key=lambda other: len(tracks[index] & tracks[other]), default=None)
        if partner is not None:
            partners[index] = partner
    return partners


def load(reader: StoreReader, task: Task) -> Comparison[Row]:
    """The rows of a task, read from the store, as `ScoreVariants` takes them."""
    rows: dict[str, Any] = {
        name: None if at is None else reader.row(at) for name, at in vars(task.payload).items()
    }
    return Comparison(**rows)

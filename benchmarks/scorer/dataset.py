"""A store of clips spoiled by known means: what the benchmark scores."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.scorer.corruptions import Means
from benchmarks.scorer.partners import Partners
from pipelines.media import encode_audio, encode_video, read_audio, read_video
from pipelines.provenance import versions
from pipelines.row import Row, digest, media, provenance, row_seed, variant_id
from pipelines.store import StoreReader, commit, committed_generation


def write_spoiled(
    data: Path, out: Path, *, seed: int, puppets_seed: int | None, means: Mapping[str, Means], command: str
) -> int:
    """Write a store of another's training originals, each before its variants; returns how many these are."""
    reader = StoreReader(data)
    rows = reader.table.select(["id", "split", "kind"]).to_pylist()
    ids = [row["id"] for row in rows if row["split"] == "train" and row["kind"] == "original"]
    settings = {
        "stage": "benchmark", "title": "Clips spoiled by known means", "command": command, "seed": seed,
        "description": "Training clips, and variants of them that are worse, or no worse, by known amounts.",
        "config": {name: {"grades": way.grades, "unit": way.unit} for name, way in means.items()},
        "inputs": committed_generation(data), "versions": versions(),
    }  # fmt: skip
    partners = Partners(reader, puppets_seed=puppets_seed)
    spoiled = (made for row in reader.rows(ids) for made in (row, *variants(row, means, partners, seed)))
    return commit(out, spoiled, generation=digest(settings), settings=settings)["train"] - len(ids)


def variants(row: Row, means: Mapping[str, Means], partners: Partners, seed: int) -> Iterator[Row]:
    """One variant a means and grade, of the tracks that a clip has and those that a partner can be found for.

    They count as of kind `both` where the clip has both tracks, so that what is not touched is judged too.
    """
    kind = "both" if row["video"] and row["audio"] else None
    decoded: dict[str, Any] = {}
    if row["video"]:
        clip = read_video(row["video"]["bytes"])
        decoded["video"] = clip.frames
    if row["audio"]:
        decoded["audio"] = read_audio(row["audio"]["bytes"])
    cases = [(name, grade) for name, way in means.items() for grade in way.grades]
    for number, (name, grade) in enumerate(cases):
        way, track = means[name], means[name].track
        if track not in decoded:
            continue
        others = [] if way.partner is None else [partners.track(row, track, way.partner, grade)]
        if any(other is None for other in others):
            continue
        made_id = variant_id(row["id"], kind or track, number)
        rng = np.random.default_rng(row_seed(seed, made_id))
        changed = way.change(decoded[track], grade, rng, *others)
        encoded = encode_video(changed, clip.fps) if track == "video" else encode_audio(changed)
        made = {"method": "spoiled", "means": name, "grade": grade, "seed": seed, "source": provenance(row)}
        yield row | {
            "id": made_id, "kind": kind or track, track: media(encoded), "generator": json.dumps(made),
        }  # fmt: skip

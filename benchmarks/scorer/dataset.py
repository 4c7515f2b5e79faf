"""Writes a store of clips with known corruptions, for the benchmark to score."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from benchmarks.scorer.corpora import Corpus
from benchmarks.scorer.corruptions import Corruption
from benchmarks.scorer.partners import Partners
from pipelines import pitch
from pipelines.errors import RunError
from pipelines.media import encode_audio, encode_video, read_audio, read_video
from pipelines.provenance import versions
from pipelines.row import Row, digest, media, provenance, row_seed, variant_id
from pipelines.store import StoreReader, commit, committed_generation


def write_corrupted(
    corpus: Corpus,
    out: Path,
    corruptions: Mapping[str, Corruption],
    *,
    corrupted: int | None,
    seed: int,
    command: str,
) -> int:
    """Write a corpus' training originals, each followed by its variants; returns the number of variants.

    Args:
        corpus: The corpus.
        out: The new store.
        corruptions: How to corrupt.
        corrupted: How many of the originals, drawn by digest of the id, have variants; None for all.
        seed: Seed of all random draws.
        command: For the records.

    Raises:
        RunError: If the corpus has no training original.
    """
    reader = StoreReader(corpus.store)
    rows = reader.table.select(["id", "split", "kind"]).to_pylist()
    ids = [row["id"] for row in rows if row["split"] == "train" and row["kind"] == "original"]
    if not ids:
        raise RunError(f"{corpus.store}: has no original in its training split; name another store")
    chosen = {*sorted(ids, key=digest)[:corrupted]}
    config = {name: {"severities": each.severities, "unit": each.unit} for name, each in corruptions.items()}
    settings = {
        "stage": "benchmark", "title": "Clips with known corruptions", "command": command, "seed": seed,
        "description": "Training clips, and variants of them that are worse, or no worse, by known amounts.",
        "config": config, "inputs": committed_generation(corpus.store), "versions": versions(),
    }  # fmt: skip
    partners = Partners(reader, puppets_seed=corpus.puppets_seed, moods=corpus.moods)

    def made() -> Iterator[Row]:
        for row in reader.rows(ids):
            yield row
            if row["id"] in chosen:
                yield from variants(row, corruptions, partners, seed)

    return commit(out, made(), generation=digest(settings), settings=settings)["train"] - len(ids)


def variants(row: Row, corruptions: Mapping[str, Corruption], partners: Partners, seed: int) -> Iterator[Row]:
    """One variant per corruption and severity, for each track that the clip has and partners are found for.

    Their kind is `both` if the clip has both tracks, so that the unchanged track is scored too.
    """
    kind = "both" if row["video"] and row["audio"] else None
    decoded: dict[str, np.ndarray] = {}
    rates: dict[str, float] = {"audio": pitch.SAMPLING_RATE}
    if row["video"]:
        clip = read_video(row["video"]["bytes"])
        decoded["video"], rates["video"] = clip.frames, clip.fps
    if row["audio"]:
        decoded["audio"] = read_audio(row["audio"]["bytes"])
    cases = [(name, each, severity) for name, each in corruptions.items() for severity in each.severities]
    for number, (name, corruption, severity) in enumerate(cases):
        track, partner = corruption.track, corruption.partner
        if track not in decoded:
            continue
        others = [] if partner is None else [partners.track(row, track, partner, severity)]
        if any(other is None for other in others):
            continue
        made_id = variant_id(row["id"], kind or track, number)
        # The same draws at every severity, so that what is touched lightly is also touched severely.
        rng = np.random.default_rng(row_seed(seed, f"{row['id']} {name}"))
        amount = severity * (rates[track] if corruption.unit == "s" else 1)
        changed = corruption.change(decoded[track], amount, rng, *others)
        encoded = encode_video(changed, clip.fps) if track == "video" else encode_audio(changed)
        made = {"method": "corrupted", "corruption": name, "severity": severity, "seed": seed}
        yield row | {
            "id": made_id, "kind": kind or track, track: media(encoded),
            "generator": json.dumps(made | {"source": provenance(row)}),
        }  # fmt: skip

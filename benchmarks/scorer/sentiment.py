"""Whether quality follows how little a puppet's sentiment changed, by probes that the scorer does not use.

    python -m benchmarks.scorer.sentiment SCORED [SCORED ...] [--seed N]

The valence of each variant in scored stores of puppets, and of its source, is estimated: that of a face by
drawing the puppet again (`benchmarks.scorer.redrawn_faces`), that of a voice by a probe that was fitted on
puppets that are in no corpus (`benchmarks.valence_probe`). The table has, by track and by what made the
variants, Spearman's correlation of quality and weight with the negative distance of the two valences, and its
95 % bootstrap interval over clips. For variants of both tracks, the distance is the mean over the tracks that
differ from the source's.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.commands import table as markdown_table
from benchmarks.scorer.redrawn_faces import RedrawnFaces
from benchmarks.valence_probe import VoiceProbe
from pipelines.errors import RunError, call
from pipelines.media import read_audio, read_video
from pipelines.row import Row, provenance
from pipelines.store import SETTINGS, StoreReader

RESAMPLES = 300
Probe = Callable[[Row, np.ndarray], float]
MIN_VARIANTS = 8
"""Fewest variants for which a correlation is printed."""


class Change(NamedTuple):
    """A variant, and the distance of its valence from its source's."""

    made_by: str
    kind: str
    source: str
    distance: float
    """Between valences, whose range is [-1, 1]."""
    quality: float
    own: float
    """Quality of the tracks that differ from the source's, without `quality_cross`."""
    weight: float


class CachedProbes:
    """Estimates the valence of tracks; a source's only once."""

    def __init__(self, probes: Mapping[str, Probe]) -> None:
        """`probes` estimate the valence of a row's decoded track, by the track's name."""
        self._probes = probes
        self._sources: dict[tuple[str, str], float] = {}

    def distance(self, row: Row, source: Row, track: str) -> float:
        """Absolute difference of the valences of a variant and its source."""
        key = (source["id"], track)
        if key not in self._sources:
            self._sources[key] = self._valence(source, track)
        return abs(self._valence(row, track) - self._sources[key])

    def _valence(self, row: Row, track: str) -> float:
        encoded = row[track]["bytes"]
        decoded = read_video(encoded).frames if track == "video" else read_audio(encoded)
        return self._probes[track](row, decoded)


def changes(store: Path, probes: CachedProbes) -> Iterator[Change]:
    """Every scored variant of a store.

    Raises:
        RunError: If it holds other clips than puppets, or is not scored.
    """
    reader = StoreReader(store)
    corpora = set(reader.table["corpus"].to_pylist())
    if corpora != {"puppets"}:
        raise RunError(
            f"{store}: holds clips of {', '.join(sorted(corpora))}; the sentiment of puppets alone is known"
        )
    if reader.table["quality"].null_count == reader.table.num_rows:
        raise RunError(f"{store}: has no qualities; score it first")
    sources: dict[str, Row] = {}
    for row in reader.rows():
        if row["kind"] == "original":
            sources = {row["id"]: row}  # its variants come next
        elif row["quality"] is not None:
            source = sources.get(row["source_id"]) or next(iter(reader.rows([row["source_id"]])))
            tracks = [track for track in ("video", "audio") if row[track] and row[track] != source[track]]
            if tracks:
                yield _change(row, source, tracks, probes)


def _change(row: Row, source: Row, tracks: Sequence[str], probes: CachedProbes) -> Change:
    made = provenance(row)
    own = [row[f"quality_{track}"] for track in tracks if row[f"quality_{track}"] is not None]
    return Change(
        made_by=made.get("corruption") or made.get("means") or made["method"],  # `means` in 0.1.0
        kind=tracks[0] if len(tracks) == 1 else "both",
        source=row["source_id"],
        distance=float(np.mean([probes.distance(row, source, track) for track in tracks])),
        quality=row["quality"],
        own=float(np.prod(own) ** (1 / len(own))),
        weight=row["weight"],
    )


def spearman(quality: np.ndarray, distance: np.ndarray) -> float:
    """Rank correlation of quality with the negative distance, in [-1, 1]; NaN if either does not vary."""
    import pandas

    return float(pandas.DataFrame({"a": quality, "b": -distance}).corr(method="spearman").loc["a", "b"])


def interval(group: Sequence[Change], key: str, seed: int = 0) -> tuple[float, float]:
    """95 % bootstrap interval of the correlation over clips."""
    rng = np.random.default_rng(seed)
    clips = sorted({each.source for each in group})
    of = {clip: [each for each in group if each.source == clip] for clip in clips}
    correlations = []
    for _ in range(RESAMPLES):
        resample = [each for at in rng.integers(len(clips), size=len(clips)) for each in of[clips[at]]]
        correlations.append(_correlation(resample, key))
    return tuple(np.nanquantile(correlations, (0.025, 0.975)))


def _correlation(group: Sequence[Change], key: str) -> float:
    return spearman(*(np.array([getattr(each, name) for each in group]) for name in (key, "distance")))


def table(variants: Sequence[Change]) -> str:
    """A line for each track, and one for each way its variants were made."""
    rows = []
    for kind in dict.fromkeys(each.kind for each in variants):
        of_kind = [each for each in variants if each.kind == kind]
        makers = sorted({each.made_by for each in of_kind})
        groups = [("all", of_kind)] if len(makers) > 1 else []
        groups += [(maker, [each for each in of_kind if each.made_by == maker]) for maker in makers]
        rows += [_cells(kind, name, group) for name, group in groups if len(group) >= MIN_VARIANTS]
    head = "track | made by | variants | change: 10, 50, 90 % | Spearman, quality of the track | quality"
    return markdown_table([*head.split(" | "), "weight"], rows)


def _cells(kind: str, name: str, group: Sequence[Change]) -> list[str]:
    quantiles = np.quantile([each.distance for each in group], (0.1, 0.5, 0.9))
    cells = [kind, name, str(len(group)), " · ".join(f"{each:.2f}" for each in quantiles)]
    for key in ("own", "quality", "weight"):
        low, high = interval(group, key)
        cells.append(f"{_correlation(group, key):.2f} ({low:.2f} to {high:.2f})")
    return cells


def main(argv: list[str]) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scorer.sentiment", description=__doc__)
    parser.add_argument("stores", type=Path, nargs="+", help="scored stores of puppets")
    parser.add_argument("--seed", type=int, help="of the puppets (default: that of each store)")
    options = parser.parse_args(argv)
    voices = VoiceProbe()
    found: list[Change] = []
    for store in options.stores:
        own = json.loads((store / SETTINGS).read_text(encoding="utf-8"))["seed"]
        faces = RedrawnFaces(own if options.seed is None else options.seed)
        probes = CachedProbes({"video": faces, "audio": lambda _, samples: voices(samples)})
        found += changes(store, probes)
    print(table(found))


if __name__ == "__main__":
    call(main)

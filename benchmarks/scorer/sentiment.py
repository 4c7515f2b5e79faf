"""Whether quality follows how little a puppet's sentiment changed, by probes that the scorer does not use.

    python -m benchmarks.scorer.sentiment SCORED [SCORED ...] [--seed N]

The valence of each variant in scored stores of puppets, and of its source, is estimated: that of a face by
drawing the puppet again (`benchmarks.redrawn_faces`), that of a voice by a probe that was fitted on
puppets that are in no corpus (`benchmarks.valence_probe`). The table has, by track and by what made the
variants, Spearman's correlation of quality and weight with the negative distance of the two valences, and its
95 % bootstrap interval over clips. For variants of both tracks, the distance is the mean over the tracks that
differ from the source's. `weight, novelty` is the partial rank correlation of weight and novelty for equal
distances: 0 if a weight does not fall with what is new in a variant that shows its source's mood.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.commands import table as markdown_table
from benchmarks.redrawn_faces import RedrawnFaces
from benchmarks.valence_probe import VoiceProbe
from pipelines.errors import RunError, call
from pipelines.media import read_audio, read_video
from pipelines.row import Row, provenance
from pipelines.store import SETTINGS, StoreReader
from pipelines.store import made_by as settings_of
from score.quality import of_whole

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
    novelty: float
    """Rank of its novelty among the store's variants, in (0, 1], mean over the tracks that differ."""


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


def changes(reader: StoreReader, probes: CachedProbes) -> Iterator[Change]:
    """Every scored variant of a store.

    Raises:
        RunError: If it holds other clips than puppets, or no scored variant.
    """
    corpora = set(reader.table["corpus"].to_pylist())
    if corpora != {"puppets"}:
        raise RunError(
            f"{reader.directory}: holds clips of {', '.join(sorted(corpora))}; the sentiment of puppets alone"
            " is known"
        )
    scored_variants(reader)
    new = _novelty_ranks(reader)
    sources: dict[str, Row] = {}
    for row in reader.rows():
        if row["kind"] == "original":
            sources = {row["id"]: row}  # its variants come next
        elif row["quality"] is not None:
            source = sources.get(row["source_id"]) or next(iter(reader.rows([row["source_id"]])))
            tracks = [track for track in ("video", "audio") if row[track] and row[track] != source[track]]
            if tracks:
                known = [new[track][row["id"]] for track in tracks]
                novelty = sum(known) / len(known)
                yield _change(row, source, tracks, probes, novelty)


def scored_variants(reader: StoreReader) -> list[Row]:
    """The variants of a store without their media.

    Raises:
        RunError: If there are none, or none of them has a quality.
    """
    variants = [row for row in reader.table.to_pylist() if row["kind"] != "original"]
    if not variants:
        raise RunError(f"{reader.directory}: has no variants; name a scored store that has some")
    if all(row["quality"] is None for row in variants):
        raise RunError(f"{reader.directory}: none of its variants has a quality; score it first")
    return variants


def _novelty_ranks(reader: StoreReader) -> dict[str, dict[str, float]]:
    """Rank of each row's novelty among those of all rows, in (0, 1], by track and id; NaN without one."""
    import pandas

    found = {}
    for track in ("video", "audio"):
        name = f"score_{track}_novelty"
        values = reader.table[name].to_pylist() if name in reader.scores else [None] * reader.table.num_rows
        novelty = pandas.Series(values, index=reader.table["id"].to_pylist(), dtype=float)
        found[track] = novelty.rank(pct=True).to_dict()
    return found


def _change(row: Row, source: Row, tracks: Sequence[str], probes: CachedProbes, novelty: float) -> Change:
    own = [row[f"quality_{track}"] for track in tracks if row[f"quality_{track}"] is not None]
    return Change(
        made_by=made_by(row),
        kind=tracks[0] if len(tracks) == 1 else "both",
        source=row["source_id"],
        distance=float(np.mean([probes.distance(row, source, track) for track in tracks])),
        quality=row["quality"],
        own=float(of_whole([np.array([each]) for each in own], np.array([np.nan]))[0]),
        weight=row["weight"],
        novelty=novelty,
    )


def made_by(row: Row) -> str:
    """The corruption or the method that made a variant; its kind if that is not known."""
    made = provenance(row)
    # `means` in 0.1.0
    return str(made.get("corruption") or made.get("means") or made.get("method") or row["kind"])


def spearman(quality: np.ndarray, distance: np.ndarray) -> float:
    """Rank correlation of quality with the negative distance, in [-1, 1]; NaN if either does not vary."""
    import pandas

    return float(pandas.DataFrame({"a": quality, "b": -distance}).corr(method="spearman").loc["a", "b"])


def at_equal_distance(weight: np.ndarray, novelty: np.ndarray, distance: np.ndarray) -> float:
    """Partial rank correlation of weight and novelty given the distance, in [-1, 1]; NaN if one is constant.

    (r_wn - r_wd r_nd) / √((1 - r_wd²) (1 - r_nd²)), with r Spearman's correlations.
    """
    import pandas

    r = pandas.DataFrame({"w": weight, "n": novelty, "d": distance}).corr(method="spearman")
    wn, wd, nd = (float(r.loc[a, b]) for a, b in ("wn", "wd", "nd"))
    left = float(np.sqrt((1 - wd**2) * (1 - nd**2)))
    return (wn - wd * nd) / left if left > 0 else float("nan")


def interval(
    group: Sequence[Change], correlation: Callable[[Sequence[Change]], float], seed: int = 0
) -> tuple[float, float]:
    """95 % bootstrap interval of a correlation over clips."""
    rng = np.random.default_rng(seed)
    clips = sorted({each.source for each in group})
    of = {clip: [each for each in group if each.source == clip] for clip in clips}
    correlations = []
    for _ in range(RESAMPLES):
        resample = [each for at in rng.integers(len(clips), size=len(clips)) for each in of[clips[at]]]
        correlations.append(correlation(resample))
    return tuple(np.nanquantile(correlations, (0.025, 0.975)))


def _arrays(group: Sequence[Change], *names: str) -> list[np.ndarray]:
    return [np.array([getattr(each, name) for each in group]) for name in names]


CORRELATIONS: dict[str, Callable[[Sequence[Change]], float]] = {
    "Spearman, quality of the track": lambda group: spearman(*_arrays(group, "own", "distance")),
    "quality": lambda group: spearman(*_arrays(group, "quality", "distance")),
    "weight": lambda group: spearman(*_arrays(group, "weight", "distance")),
    "weight, novelty": lambda group: at_equal_distance(*_arrays(group, "weight", "novelty", "distance")),
}
"""The columns of the table."""


def table(variants: Sequence[Change]) -> str:
    """A line for each track, and one for each way its variants were made."""
    rows = []
    for kind in dict.fromkeys(each.kind for each in variants):
        of_kind = [each for each in variants if each.kind == kind]
        makers = sorted({each.made_by for each in of_kind})
        groups = [("all", of_kind)] if len(makers) > 1 else []
        groups += [(maker, [each for each in of_kind if each.made_by == maker]) for maker in makers]
        rows += [_cells(kind, name, group) for name, group in groups if len(group) >= MIN_VARIANTS]
    return markdown_table(["track", "made by", "variants", "change: 10, 50, 90 %", *CORRELATIONS], rows)


def _cells(kind: str, name: str, group: Sequence[Change]) -> list[str]:
    quantiles = np.quantile([each.distance for each in group], (0.1, 0.5, 0.9))
    cells = [kind, name, str(len(group)), " · ".join(f"{each:.2f}" for each in quantiles)]
    for correlation in CORRELATIONS.values():
        low, high = interval(group, correlation)
        cells.append(f"{correlation(group):.2f} ({low:.2f} to {high:.2f})")
    return cells


def _seed(store: Path) -> int:
    seed = settings_of(store).get("seed")
    if seed is None:
        raise RunError(f"{store}: its {SETTINGS} has no seed; give that of its puppets with --seed")
    return int(seed)


def main(argv: list[str]) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scorer.sentiment",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("stores", type=Path, nargs="+", help="scored stores of puppets")
    parser.add_argument("--seed", type=int, help="of the puppets (default: that of each store)")
    options = parser.parse_args(argv)
    voices = VoiceProbe()
    found: list[Change] = []
    for store in options.stores:
        reader = StoreReader(store)
        faces = RedrawnFaces(_seed(store) if options.seed is None else options.seed)
        probes = CachedProbes({"video": faces, "audio": lambda _, samples: voices(samples)})
        found += changes(reader, probes)
    print(table(found))


if __name__ == "__main__":
    call(main)

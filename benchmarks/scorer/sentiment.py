"""Does quality follow how little a puppet's mood moved? Asked of a ruler that the scorer does not use.

    python -m benchmarks.scorer.sentiment SCORED [SCORED ...]

Each variant in scored stores of puppets, and its source, are read by `benchmarks.valence_probe`, which
knows the mood that faces and voices of puppets carry, from others than are in any corpus. The table
has, by track and by what made the variants, Spearman's correlation of their qualities with less the
distance of both readings, with a 95 % interval from clips drawn again. Variants of both tracks count as
moved by the mean over those that are not their source's.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.valence_probe import FaceProbe, VoiceProbe
from pipelines.errors import RunError, call
from pipelines.media import read_audio, read_video
from pipelines.row import Row, provenance
from pipelines.store import StoreReader

DRAWS = 300
LEAST = 8
"""Variants that a correlation is told of."""


class Moved(NamedTuple):
    """A variant, and how far its mood is from its source's."""

    made_by: str
    kind: str
    source: str
    distance: float
    """Of valences, whose range is [-1, 1]."""
    quality: float
    own: float
    """Quality of the tracks that differ from the source's, without `quality_cross`."""


class Ruler:
    """Reads tracks; a source's once."""

    def __init__(self, probes: Mapping[str, Callable[[np.ndarray], float]]) -> None:
        """`probes` read the mood of a decoded track, by its name."""
        self._probes = probes
        self._sources: dict[tuple[str, str], float] = {}

    def distance(self, row: Row, source: Row, track: str) -> float:
        """How far apart a variant and its source are."""
        key = (source["id"], track)
        if key not in self._sources:
            self._sources[key] = self._read(source, track)
        return abs(self._read(row, track) - self._sources[key])

    def _read(self, row: Row, track: str) -> float:
        encoded = row[track]["bytes"]
        return self._probes[track](read_video(encoded).frames if track == "video" else read_audio(encoded))


def recoloured(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Frames in other colours, with another brightness and contrast, for the ruler to see through."""
    mixed = frames @ rng.dirichlet(np.ones(3), 3).astype(np.float32).T
    return (0.15 + 0.75 * np.clip(mixed, 0, 1) ** rng.uniform(0.6, 1.6)).astype(np.float32)


def moved(store: Path, ruler: Ruler) -> Iterator[Moved]:
    """Every scored variant of a store.

    Raises:
        RunError: If it holds other clips than puppets, or is not scored.
    """
    reader = StoreReader(store)
    corpora = set(reader.table["corpus"].to_pylist())
    if corpora != {"puppets"}:
        found = ", ".join(sorted(corpora))
        raise RunError(f"{store}: holds clips of {found}; the mood of puppets alone is known")
    if reader.table["quality"].null_count == reader.table.num_rows:
        raise RunError(f"{store}: has no qualities; score it first")
    sources: dict[str, Row] = {}
    for row in reader.rows():
        if row["kind"] == "original":
            sources = {row["id"]: row}  # its variants come next
        elif row["quality"] is not None:
            source = sources.get(row["source_id"]) or next(iter(reader.rows([row["source_id"]])))
            yield from _moved(row, source, ruler)


def _moved(row: Row, source: Row, ruler: Ruler) -> Iterator[Moved]:
    tracks = [track for track in ("video", "audio") if row[track] and row[track] != source[track]]
    if not tracks:
        return
    known = provenance(row)
    distance = float(np.mean([ruler.distance(row, source, track) for track in tracks]))
    own = [row[f"quality_{track}"] for track in tracks if row[f"quality_{track}"] is not None]
    kind = tracks[0] if len(tracks) == 1 else "both"
    made_by = known.get("means") or known["method"]
    of_tracks = float(np.prod(own) ** (1 / len(own)))
    yield Moved(made_by, kind, row["source_id"], distance, row["quality"], of_tracks)


def spearman(quality: np.ndarray, distance: np.ndarray) -> float:
    """Rank correlation of quality with less the distance, in [-1, 1]; NaN where either does not vary."""
    import pandas

    return float(pandas.DataFrame({"a": quality, "b": -distance}).corr(method="spearman").loc["a", "b"])


def interval(found: Sequence[Moved], key: str, seed: int = 0) -> tuple[float, float]:
    """95 % of the correlations of variants of clips that are drawn again, with replacement."""
    rng = np.random.default_rng(seed)
    clips = sorted({each.source for each in found})
    of = {clip: [each for each in found if each.source == clip] for clip in clips}
    drawn = []
    for _ in range(DRAWS):
        again = [each for at in rng.integers(len(clips), size=len(clips)) for each in of[clips[at]]]
        drawn.append(_correlation(again, key))
    return tuple(np.nanquantile(drawn, (0.025, 0.975)))


def _correlation(found: Sequence[Moved], key: str) -> float:
    return spearman(*(np.array([getattr(each, name) for each in found]) for name in (key, "distance")))


def table(found: Sequence[Moved]) -> list[str]:
    """One line a track, and one for what made its variants."""
    lines = [
        "| track | made by | variants | moved: 10, 50, 90 % | Spearman, quality of the track | quality |",
        "|---|---|---|---|---|---|",
    ]
    for kind in dict.fromkeys(each.kind for each in found):
        of_kind = [each for each in found if each.kind == kind]
        makers = sorted({each.made_by for each in of_kind})
        groups = [("all", of_kind)] if len(makers) > 1 else []
        groups += [(maker, [each for each in of_kind if each.made_by == maker]) for maker in makers]
        lines += [_line(kind, name, group) for name, group in groups if len(group) >= LEAST]
    return lines


def _line(kind: str, name: str, group: Sequence[Moved]) -> str:
    quantiles = np.quantile([each.distance for each in group], (0.1, 0.5, 0.9))
    cells = [kind, name, str(len(group)), " · ".join(f"{each:.2f}" for each in quantiles)]
    for key in ("own", "quality"):
        low, high = interval(group, key)
        cells.append(f"{_correlation(group, key):.2f} ({low:.2f} to {high:.2f})")
    return f"| {' | '.join(cells)} |"


def main(argv: list[str]) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scorer.sentiment", description=__doc__)
    parser.add_argument("stores", type=Path, nargs="+", help="scored stores of puppets")
    stores = parser.parse_args(argv).stores
    ruler = Ruler({"video": FaceProbe([recoloured]), "audio": VoiceProbe()})
    print("\n".join(table([each for store in stores for each in moved(store, ruler)])))


if __name__ == "__main__":
    call(main)

"""Valence ratings of CREMA-D: how annotators rated voice, face and both, so that modalities can disagree.

`summaryTable.csv` has for each of 7,442 clips the emotion with most votes and its level from 0 to 100,
for the voice alone, the face alone, and both together. We convert a rating to a valence: +1 for happy, 0
for neutral, -1 for anger, disgust, fear and sadness, times the level over 100; emotions with equally many
votes are averaged. A clip's name begins with its actor.

The table is under the Open Database License.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from finetune.fusion.features.arrays import FeatureError
from pipelines.corpora.table import Line, ParseErrors, read_table
from pipelines.row import SPLITS, row_seed

SIGNS = {"H": 1.0, "N": 0.0, "A": -1.0, "D": -1.0, "F": -1.0, "S": -1.0}
HIGHEST_LEVEL = 100.0
STREAMS = {"voice": "Voice", "face": "Face", "both": "MultiModal"}
COLUMNS = ("FileName", *(f"{stream}{kind}" for stream in STREAMS.values() for kind in ("Vote", "Level")))
# A clip is positive or negative if the valence of both together is beyond this.
CLASS_EDGE = 0.15


@dataclass(frozen=True, kw_only=True)
class AnnotatorRatings:
    """Clips and their valence in [-1, 1] according to annotators."""

    clips: list[str]
    actors: np.ndarray
    """str (n,)."""
    voice: np.ndarray
    """float (n,), from the voice alone."""
    face: np.ndarray
    """float (n,), from the face alone."""
    both: np.ndarray
    """float (n,), from both together."""

    @property
    def classes(self) -> np.ndarray:
        """-1, 0 or 1 for each clip, from the rating of both together."""
        return np.where(np.abs(self.both) > CLASS_EDGE, np.sign(self.both), 0).astype(int)


def read_ratings(path: Path) -> AnnotatorRatings:
    """Read `summaryTable.csv`.

    Raises:
        RunError: If it is another table, or a vote or level is malformed.
    """
    errors = ParseErrors(path)
    lines = read_table(errors, COLUMNS)
    clips = [errors.required(line, "FileName") for line in lines]
    valences = {
        name: np.array([_valence(line, stream, errors) for line in lines]) for name, stream in STREAMS.items()
    }
    errors.raise_any()
    actors = np.array([clip.partition("_")[0] for clip in clips])
    return AnnotatorRatings(clips=clips, actors=actors, **valences)


def _valence(line: Line, stream: str, errors: ParseErrors) -> float:
    votes, levels = line.get(f"{stream}Vote").split(":"), line.get(f"{stream}Level").split(":")
    try:
        valences = []
        for vote, level in zip(votes, levels, strict=True):
            if vote not in SIGNS or not 0 <= float(level) <= HIGHEST_LEVEL:
                raise ValueError(vote)
            valences.append(SIGNS[vote] * float(level) / HIGHEST_LEVEL)
        return float(np.mean(valences))
    except ValueError:
        errors.add(
            line,
            f"{stream}Vote and {stream}Level are no emotions of {', '.join(SIGNS)} with a level of"
            f" 0 to {HIGHEST_LEVEL:g} each",
            f"{line.get(f'{stream}Vote')!r} and {line.get(f'{stream}Level')!r}",
        )
        return 0.0


def split_actors(ratings: AnnotatorRatings, counts: dict[str, int], seed: int) -> dict[str, set[str]]:
    """Distribute the actors over the splits in proportion to their sentences; none is in two.

    Args:
        ratings: The clips.
        counts: Number of sentences of each split.
        seed: Seed of the actors' order.

    Raises:
        FeatureError: If there are fewer actors than splits.
    """
    actors = sorted(set(ratings.actors.tolist()), key=lambda actor: row_seed(seed, f"actor {actor}"))
    if len(actors) < len(SPLITS):
        raise FeatureError(f"--votes: found {len(actors)} actors; takes at least one for each of {SPLITS}")
    spare = len(actors) - len(SPLITS)  # besides the one that each split gets
    ends = np.cumsum([counts[split] for split in SPLITS]) / sum(counts.values())
    stops = [round(end * spare) + number for number, end in enumerate(ends, 1)]
    starts = [0, *stops[:-1]]
    return {split: set(actors[start:stop]) for split, start, stop in zip(SPLITS, starts, stops, strict=True)}


def pair(
    ratings: AnnotatorRatings, actors: set[str], ids: list[str], valences: np.ndarray, seed: int
) -> np.ndarray:
    """For each sentence, a clip by one of these actors from the class nearest to the sentence's valence.

    A class is at its clips' mean valence, rated from both together. The clip is drawn from (seed, id), so
    that it does not depend on other sentences; several sentences may get the same clip.

    Args:
        ratings: The clips.
        actors: The actors whose clips may be used.
        ids: Ids of the sentences.
        valences: Valences of the sentences, in [-1, 1].
        seed: Seed of the draw.

    Returns:
        Positions in `ratings`, int (n,).
    """
    own = np.isin(ratings.actors, sorted(actors))
    groups = [np.flatnonzero(own & (ratings.classes == each)) for each in (-1, 0, 1)]
    groups = [group for group in groups if len(group)]
    means = np.array([ratings.both[group].mean() for group in groups])
    nearest = np.abs(valences[:, None] - means).argmin(1)
    return np.array(
        [
            groups[index][row_seed(seed, f"clip {row_id}") % len(groups[index])]
            for row_id, index in zip(ids, nearest, strict=True)
        ]
    )

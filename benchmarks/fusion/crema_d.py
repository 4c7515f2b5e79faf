"""What raters of CREMA-D heard in a voice and saw in a face: the disagreement of real people, as numbers.

`summaryTable.csv` has for each of 7,442 clips the emotion that most raters named, with its level
from 0 to 100, for the voice alone, the face alone, and both together. The valence of a rating is
ours: +1 for happy, 0 for neutral, -1 for anger, disgust, fear and sadness, times the level over
100; emotions with equally many votes count alike. A clip's name begins with its actor.

The table's licence is the Open Database License.
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
# Valence of both together, beyond which a clip counts as positive or negative.
CLASS_EDGE = 0.15


@dataclass(frozen=True, kw_only=True)
class Votes:
    """Clips and the valence, in [-1, 1], that raters gave them."""

    clips: list[str]
    actors: np.ndarray
    """str (n,)."""
    voice: np.ndarray
    """float (n,), by the voice alone."""
    face: np.ndarray
    """float (n,), by the face alone."""
    both: np.ndarray
    """float (n,), by both together."""

    @property
    def classes(self) -> np.ndarray:
        """-1, 0 or 1 for each clip, by the rating of both together."""
        return np.where(np.abs(self.both) > CLASS_EDGE, np.sign(self.both), 0).astype(int)


def read_votes(path: Path) -> Votes:
    """Read `summaryTable.csv`.

    Raises:
        RunError: If it is not that table, or a vote or level is none.
    """
    errors = ParseErrors(path)
    lines = read_table(errors, COLUMNS)
    clips = [errors.required(line, "FileName") for line in lines]
    valences = {
        name: np.array([_valence(line, stream, errors) for line in lines]) for name, stream in STREAMS.items()
    }
    errors.raise_any()
    return Votes(clips=clips, actors=np.array([clip.partition("_")[0] for clip in clips]), **valences)


def _valence(line: Line, stream: str, errors: ParseErrors) -> float:
    votes, levels = line.get(f"{stream}Vote").split(":"), line.get(f"{stream}Level").split(":")
    try:
        return float(np.mean([_one(vote, level) for vote, level in zip(votes, levels, strict=True)]))
    except ValueError:
        errors.add(
            line,
            f"{stream}Vote and {stream}Level are no emotions of {', '.join(SIGNS)} with a level of"
            f" 0 to {HIGHEST_LEVEL:g} each",
            f"{line.get(f'{stream}Vote')!r} and {line.get(f'{stream}Level')!r}",
        )
        return 0.0


def _one(vote: str, level: str) -> float:
    if vote not in SIGNS or not 0 <= float(level) <= HIGHEST_LEVEL:
        raise ValueError(vote)
    return SIGNS[vote] * float(level) / HIGHEST_LEVEL


def split_actors(votes: Votes, counts: dict[str, int], seed: int) -> dict[str, set[str]]:
    """Share the actors out among the splits, in proportion to their clips, so that none is in two.

    Args:
        votes: The clips.
        counts: How many sentences each split has.
        seed: Of the order in which actors are drawn.

    Raises:
        FeatureError: If there are fewer actors than splits.
    """
    actors = sorted(set(votes.actors.tolist()), key=lambda actor: row_seed(seed, f"actor {actor}"))
    if len(actors) < len(SPLITS):
        raise FeatureError(f"--votes: found {len(actors)} actors; wants at least one for each of {SPLITS}")
    spare = len(actors) - len(SPLITS)  # beside the one that each split has
    ends = np.cumsum([counts[split] for split in SPLITS]) / sum(counts.values())
    stops = [round(end * spare) + number for number, end in enumerate(ends, 1)]
    starts = [0, *stops[:-1]]
    return {split: set(actors[start:stop]) for split, start, stop in zip(SPLITS, starts, stops, strict=True)}


def pair(votes: Votes, actors: set[str], ids: list[str], valences: np.ndarray, seed: int) -> np.ndarray:
    """For each sentence a clip of these actors whose class is nearest to what the sentence says.

    A class stands for the mean of its clips' valence by both together. Which clip of the class is
    drawn from (seed, id), so that it depends on no other sentence; one clip may serve several.

    Args:
        votes: The clips.
        actors: Whose clips may be taken.
        ids: Of the sentences.
        valences: What the sentences say, in [-1, 1].
        seed: Of the drawing.

    Returns:
        Positions in `votes`, int (n,).
    """
    own = np.isin(votes.actors, sorted(actors))
    groups = [np.flatnonzero(own & (votes.classes == each)) for each in (-1, 0, 1)]
    groups = [group for group in groups if len(group)]
    means = np.array([votes.both[group].mean() for group in groups])
    nearest = np.abs(valences[:, None] - means).argmin(1)
    return np.array(
        [
            groups[index][row_seed(seed, f"clip {row_id}") % len(groups[index])]
            for row_id, index in zip(ids, nearest, strict=True)
        ]
    )

"""The mood of a puppet's face in any style, by drawing the puppet again in known moods.

The face is drawn with several valences and otherwise as it was, and its outlines are compared with those of
the clip, whatever the colours: analysis by synthesis. On encoded originals the estimates differ from the
valence that was drawn by 0.01 in the median, in [-1, 1].
"""

from __future__ import annotations

import numpy as np

from benchmarks.scorer.partners import puppet
from pipelines.errors import RunError
from pipelines.puppets import corpus
from pipelines.row import Row
from score.media.video import VideoTrack

VALENCES = np.linspace(-1, 1, 9)
FACE = (slice(13, 57), slice(11, 51))
"""Rows and columns of the face in the outlines of a frame of 64 px."""
LEAST_ALIKE = 0.9
"""Correlation of an original's outlines with those drawn again; if it is less, the seed is another."""


class RedrawnFaces:
    """Estimates the valence of the video of puppets and of their variants."""

    def __init__(self, seed: int) -> None:
        """`seed` is that of the corpus."""
        self._seed = seed
        self._source = ""
        self._drawn: list[np.ndarray] = []

    def __call__(self, row: Row, frames: np.ndarray) -> float:
        """The valence in [-1, 1] of a clip's frames, uint8 RGB (F, 64, 64, 3).

        Raises:
            RunError: If it is an original that this seed does not draw.
        """
        if row["source_id"] != self._source:
            self._source, self._drawn = row["source_id"], self._draw(row)
        outlines = _outlines(frames)
        length = min(len(outlines), len(self._drawn[0]))
        alike = [float((outlines[:length] * each[:length]).sum(axis=1).mean()) for each in self._drawn]
        if row["id"] == self._source and max(alike) < LEAST_ALIKE:
            raise RunError(f"{row['id']}: is not what the seed {self._seed} draws; give the corpus' --seed")
        return _peak(np.array(alike))

    def _draw(self, row: Row) -> list[np.ndarray]:
        part = corpus.Part(id=puppet(row), split="train", speaker=row["group"], speaker_pool="train")
        return [_outlines(corpus.draw(part, self._seed, video=float(each)).frames) for each in VALENCES]


def _outlines(frames: np.ndarray) -> np.ndarray:
    """The outlines of each frame's face, with mean 0 and length 1, (F, pixels)."""
    edges = VideoTrack(frames, 1.0).edges[:, *FACE].reshape(len(frames), -1)
    edges = edges - edges.mean(axis=1, keepdims=True)
    return edges / np.maximum(np.sqrt((edges * edges).sum(axis=1, keepdims=True)), 1e-6)


def _peak(alike: np.ndarray) -> float:
    """The valence of the highest value, by a parabola through its neighbours."""
    at = int(alike.argmax())
    valence, step = float(VALENCES[at]), float(VALENCES[1] - VALENCES[0])
    if 0 < at < len(VALENCES) - 1:
        before, here, behind = alike[at - 1 : at + 2]
        valence += step * 0.5 * float((before - behind) / (before - 2 * here + behind))
    return valence

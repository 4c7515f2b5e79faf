"""Whose track takes a clip's place in the benchmark: the same person's in another mood, or a stranger's."""

from __future__ import annotations

from functools import cache
from typing import Any, Literal

import numpy as np

from pipelines.media import read_audio, read_video
from pipelines.row import Row
from pipelines.store import StoreReader
from score.planning import pair

Track = Literal["video", "audio"]
Partner = Literal["redrawn", "same person", "stranger"]


class Partners:
    """Finds partners among the training originals of a store; puppets can be drawn again."""

    def __init__(self, reader: StoreReader, *, puppets_seed: int | None = None) -> None:
        """`puppets_seed` is that of the puppets that the store consists of; None where it has other clips."""
        self._reader, self._puppets_seed = reader, puppets_seed
        self._rows = reader.table.to_pylist()
        self._originals = [
            at for at, row in enumerate(self._rows) if row["split"] == "train" and row["kind"] == "original"
        ]
        self._strangers = pair(self._originals, self._rows, len(self._originals))
        self._position = {self._rows[at]["id"]: at for at in self._originals}
        self._decoded = cache(self._decode)

    def track(self, row: Row, track: Track, partner: Partner, grade: float) -> np.ndarray | None:
        """A track to put into a clip.

        Args:
            row: The clip.
            track: Which.
            partner: `redrawn`: a puppet's clip with another valence of this track alone. `same person`:
                of the clips of the same group, of sound only those with the same words, the one whose
                label differs most. `stranger`: another group's clip.
            grade: How far a redrawn puppet's valence is moved to the other end, as a share of the way.

        Returns:
            As `pipelines.media` decodes it, of any length; None where there is no such clip.
        """
        if partner == "redrawn":
            return None if self._puppets_seed is None else redrawn(row, track, grade, self._puppets_seed)
        found = self._same_person(row, track) if partner == "same person" else self._stranger(row)
        return None if found is None or not self._rows[found][f"has_{track}"] else self._decoded(found, track)

    def _stranger(self, row: Row) -> int | None:
        found = self._strangers.get(self._position[row["id"]])
        return None if found is None or self._rows[found]["group"] == row["group"] else found

    def _same_person(self, row: Row, track: Track) -> int | None:
        others = [
            at
            for at in self._originals
            if self._rows[at]["group"] == row["group"]
            and self._rows[at]["id"] != row["id"]
            and (track == "video" or self._rows[at]["text"] == row["text"])
        ]
        return max(others, key=lambda at: abs(self._rows[at]["label"] - row["label"]), default=None)

    def _decode(self, at: int, track: Track) -> np.ndarray:
        encoded = self._reader.row(at)[track]["bytes"]
        return read_video(encoded).frames if track == "video" else read_audio(encoded)


def redrawn(row: Row, track: Track, share: float, seed: int) -> np.ndarray:
    """A puppet's track with its valence moved towards the end that is farther away, by a share of the way."""
    from pipelines.puppets import corpus

    part = corpus.Part(
        id=row["id"].removeprefix(f"{row['corpus']}/"),
        split="train",
        speaker=row["group"],
        speaker_pool="train",
    )
    valence = row[f"label_{track}"] / 3
    end = -1.0 if valence > 0 else 1.0
    moved: dict[str, Any] = {track: valence + share * (end - valence)}
    clip = corpus.draw(part, seed, **moved)
    return clip.frames if track == "video" else clip.samples

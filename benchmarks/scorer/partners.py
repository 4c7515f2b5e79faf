"""Finds clips whose track can replace another clip's: by the same person, or by a stranger."""

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
    """Finds partners among the training originals of a store, and draws puppets again."""

    def __init__(self, reader: StoreReader, *, puppets_seed: int | None = None) -> None:
        """`puppets_seed` is the seed of the store's puppets; None if it has other clips."""
        self._reader, self._puppets_seed = reader, puppets_seed
        self._rows = reader.table.to_pylist()
        self._originals = [
            at for at, row in enumerate(self._rows) if row["split"] == "train" and row["kind"] == "original"
        ]
        self._strangers = pair(self._originals, self._rows, len(self._originals))
        self._position = {self._rows[at]["id"]: at for at in self._originals}
        self._decoded = cache(self._decode)

    def track(self, row: Row, track: Track, partner: Partner, severity: float) -> np.ndarray | None:
        """A track to put into a clip.

        Args:
            row: The clip.
            track: Which track.
            partner: `redrawn`: the same puppet with another valence in this track only. `same person`:
                the clip of the same group whose label differs most; for audio, of those with the same
                words. `stranger`: a clip of another group.
            severity: For `redrawn`, the share of the distance to the farther end that the valence is moved.

        Returns:
            As `pipelines.media` decodes it, of any length; None if there is no such clip.
        """
        if partner == "redrawn":
            return None if self._puppets_seed is None else redrawn(row, track, severity, self._puppets_seed)
        same = partner == "same person"
        at = self._same_person(row, track) if same else self._strangers.get(self._position[row["id"]])
        if at is None or (not same and self._rows[at]["group"] == row["group"]):
            return None
        return self._decoded(at, track) if self._rows[at][f"has_{track}"] else None

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
    """A puppet's track with its valence moved towards the farther end by a share of the distance."""
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

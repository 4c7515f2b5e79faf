"""Finds tracks that can replace another clip's: by the same person, by a stranger, by a crowd or a double."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any, Literal

import numpy as np

from pipelines.media import read_audio, read_video
from pipelines.row import Row, row_seed
from pipelines.store import StoreReader
from score.planning import pair

Track = Literal["video", "audio"]
Partner = Literal["redrawn", "same person", "stranger", "crowd", "double"]
CROWD = 4
"""Voices of a crowd, or fewer where there are fewer groups."""


class Partners:
    """Finds partners among the training originals of a store, and draws puppets again."""

    def __init__(
        self, reader: StoreReader, *, puppets_seed: int | None = None, moods: Mapping[str, str] | None = None
    ) -> None:
        """Read the store's table.

        Args:
            reader: The store.
            puppets_seed: The seed of the store's puppets; None if it has other clips.
            moods: The mood of each clip by its id; by default, its label.
        """
        self._reader, self._puppets_seed, self._moods = reader, puppets_seed, moods or {}
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
                of the clips of the same group with another label the one whose label differs most; for
                audio, of those with the same words. `stranger`: a clip of another group. `crowd`: the
                voices of other groups, added. `double`: the same words in the same mood by another person;
                for video, only a puppet has one, whose mouth moves as the clip's does.
            severity: For `redrawn`, the share of the distance to the farther end that the valence is moved.

        Returns:
            As `pipelines.media` decodes it, of any length; None if there is no such clip.
        """
        if partner == "crowd":
            return self._crowd(row)
        if self._puppets_seed is not None and partner == "redrawn":
            return redrawn(row, track, severity, self._puppets_seed)
        if self._puppets_seed is not None and partner == "double":
            return double(row, track, self._puppets_seed)
        at = self._found(row, track, partner)
        return self._decoded(at, track) if at is not None and self._rows[at][f"has_{track}"] else None

    def _found(self, row: Row, track: Track, partner: Partner) -> int | None:
        if partner == "same person":
            return self._same_person(row, track)
        if partner == "double" and track == "audio":
            return next((at for at in self._others(row) if self._same_reading(self._rows[at], row)), None)
        at = self._strangers.get(self._position[row["id"]]) if partner == "stranger" else None
        return at if at is not None and self._rows[at]["group"] != row["group"] else None

    def _same_person(self, row: Row, track: Track) -> int | None:
        others = [
            at
            for at in self._originals
            if self._rows[at]["group"] == row["group"]
            and self._rows[at]["id"] != row["id"]
            and self._rows[at]["label"] != row["label"]
            and (track == "video" or self._rows[at]["text"] == row["text"])
        ]
        return max(others, key=lambda at: abs(self._rows[at]["label"] - row["label"]), default=None)

    def _others(self, row: Row) -> list[int]:
        """The clips of other groups that have audio, those behind the clip first."""
        others = [
            at
            for at in self._originals
            if self._rows[at]["group"] != row["group"] and self._rows[at]["has_audio"]
        ]
        own = self._position[row["id"]]
        return [at for at in others if at > own] + [at for at in others if at < own]

    def _same_reading(self, other: Row, row: Row) -> bool:
        """Whether the words and the mood of two clips are the same."""
        moods = [self._moods.get(each["id"], each["label"]) for each in (other, row)]
        return other["text"] == row["text"] and moods[0] == moods[1]

    def _crowd(self, row: Row) -> np.ndarray | None:
        """A voice of each of the next groups, as loud as each other, repeated until the longest ends."""
        of_group: dict[str, int] = {}
        for at in self._others(row):
            of_group.setdefault(self._rows[at]["group"], at)
        voices = [self._decoded(at, "audio") for at in [*of_group.values()][:CROWD]]
        voices = [voice / max(float(voice.std()), 1e-9) for voice in voices]
        longest = max(map(len, voices), default=0)
        return np.sum([np.resize(voice, longest) for voice in voices], axis=0) if voices else None

    def _decode(self, at: int, track: Track) -> np.ndarray:
        encoded = self._reader.row(at)[track]["bytes"]
        return read_video(encoded).frames if track == "video" else read_audio(encoded)


def redrawn(row: Row, track: Track, share: float, seed: int) -> np.ndarray:
    """A puppet's track with its valence moved towards the farther end by a share of the distance."""
    from pipelines.puppets import corpus

    part = corpus.Part(id=puppet(row), split="train", speaker=row["group"], speaker_pool="train")
    valence = row[f"label_{track}"] / 3
    end = -1.0 if valence > 0 else 1.0
    moved: dict[str, Any] = {track: valence + share * (end - valence)}
    clip = corpus.draw(part, seed, **moved)
    return clip.frames if track == "video" else clip.samples


def double(row: Row, track: Track, seed: int) -> np.ndarray:
    """A puppet's track with the face, or the voice, of another puppet that is in no corpus.

    Only this track is another's: the face moves its mouth with the clip's own voice, and the voice speaks as
    fast and as lively as the clip's own, since a voice that does not is another reading.
    """
    from pipelines.puppets import corpus

    own, other = (corpus.person(name, "train", seed) for name in (row["group"], f"double of {row['group']}"))
    voice = replace(other.voice, pace=own.voice.pace, liveliness=own.voice.liveliness)
    who = replace(own, look=other.look) if track == "video" else replace(own, voice=voice)
    rng = np.random.default_rng(row_seed(seed, puppet(row)))
    clip = corpus.make_clip(who, corpus.valences(rng), rng)
    return clip.frames if track == "video" else clip.samples


def puppet(row: Row) -> str:
    """A puppet's id in its corpus, which its random draws depend on."""
    return row["id"].removeprefix(f"{row['corpus']}/")

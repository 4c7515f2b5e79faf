"""Target voices: who is to speak in a variant's sound.

The voices are the other speakers of the corpus' training split, or those of a folder. A target is
never the source's own speaker.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines import media
from pipelines.errors import UsageError

if TYPE_CHECKING:
    from augment.settings import AudioSettings
    from pipelines.store import StoreReader

CORPUS = "corpus"
"""The setting for the training split's own speakers."""
SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".m4a")
LEVEL_CLIPS = 6
"""Clips that a speaker's usual pitch is taken from."""
SAMPLING_RATE = 16_000

Clip = int | Path
"""Where a speaker's sound is: a row of the store, or a file."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """A voice to convert to."""

    speaker: str
    clip: str
    """The row's id, or the file's path in its folder."""
    samples: np.ndarray
    """float32 mono (samples,) in [-1, 1] at 16 kHz."""
    sha256: str
    """Of the clip's bytes."""


class VoiceBank:
    """Speakers and their clips; draws a target and knows how high each speaker's voice is.

    Args:
        settings: `voices` is `corpus` or a folder.
        reader: The store that is augmented.

    Raises:
        UsageError: If the folder holds no speech.
    """

    def __init__(self, settings: AudioSettings, reader: StoreReader) -> None:
        self._reader, self._reference_s = reader, settings.reference_s
        self._sources = _speakers_of(reader)
        self._targets: dict[str, list[Clip]] = self._sources
        self._folder = None if settings.voices == CORPUS else Path(settings.voices)
        if self._folder is not None:
            self._targets = _speakers_in(self._folder)
        self._levels: dict[tuple[Clip, ...], float] = {}

    def draw(self, row: dict[str, Any], rng: np.random.Generator) -> Target:
        """A voice other than a row's: speakers have equal chances, and then their clips.

        Raises:
            ValueError: If there is no other speaker.
        """
        speakers = sorted(name for name in self._targets if name != row["group"])
        if not speakers:
            raise ValueError(
                f"{row['id']}: no voice but its own speaker's ({row['group']}) is in"
                f" {self._folder or 'the training split'}; name a folder of voices in augment.audio.voices"
            )
        speaker = speakers[rng.integers(len(speakers))]
        clips = self._targets[speaker]
        clip = clips[rng.integers(len(clips))]
        encoded = self._encoded(clip)
        return Target(
            speaker=speaker,
            clip=self._name(clip),
            samples=_start(media.read_audio(encoded), self._reference_s),
            sha256=hashlib.sha256(encoded).hexdigest(),
        )

    def apart(self, source: str, target: str) -> float | None:
        """Octaves by which a target speaker's voice is usually higher than a source speaker's.

        Medians over several clips, so that the mood of one clip does not count. None where one of
        them has no pitch.
        """
        difference = self._level(self._targets[target]) - self._level(self._sources.get(source, []))
        return None if np.isnan(difference) else float(difference)

    def _level(self, clips: list[Clip]) -> float:
        """Median pitch in octaves over a speaker's first clips; NaN where there is none."""
        key = tuple(clips[:LEVEL_CLIPS])
        if key not in self._levels:
            middles = [middle for middle in map(self._middle, key) if not np.isnan(middle)]
            self._levels[key] = float(np.median(middles)) if middles else float("nan")
        return self._levels[key]

    def _middle(self, clip: Clip) -> float:
        import torch

        from augment import pitch

        samples = _start(media.read_audio(self._encoded(clip)), self._reference_s)
        return pitch.middle(pitch.track(torch.from_numpy(samples)))

    def _encoded(self, clip: Clip) -> bytes:
        if isinstance(clip, Path):
            return clip.read_bytes()
        return self._reader.row(clip)["audio"]["bytes"]

    def _name(self, clip: Clip) -> str:
        if isinstance(clip, Path):
            assert self._folder is not None
            return clip.relative_to(self._folder).as_posix()
        return self._reader.table["id"][clip].as_py()


def _speakers_of(reader: StoreReader) -> dict[str, list[Clip]]:
    """Rows of each speaker among the training split's originals that have sound."""
    columns = reader.table.select(["split", "kind", "group", "has_audio"]).to_pydict()
    speakers: dict[str, list[Clip]] = {}
    for index, (split, kind, group, has_audio) in enumerate(zip(*columns.values(), strict=True)):
        if split == "train" and kind == "original" and has_audio:
            speakers.setdefault(group, []).append(index)
    return speakers


def _speakers_in(folder: Path) -> dict[str, list[Clip]]:
    """Files of each speaker in a folder: a subfolder is a speaker, and so is a file beside them."""
    if not folder.is_dir():
        raise UsageError(f"augment.audio.voices: {folder} is no folder; take {CORPUS} or a folder of speech")
    speakers: dict[str, list[Clip]] = {}
    for file in _sound_files(folder):
        parts = file.relative_to(folder).parts
        speakers.setdefault(parts[0] if len(parts) > 1 else file.stem, []).append(file)
    if not speakers:
        raise UsageError(f"augment.audio.voices: {folder} holds no {', '.join(SUFFIXES)} file")
    return speakers


def _sound_files(folder: Path) -> Iterator[Path]:
    return (file for file in sorted(folder.rglob("*")) if file.suffix.lower() in SUFFIXES)


def _start(samples: np.ndarray, seconds: float) -> np.ndarray:
    return samples[: round(seconds * SAMPLING_RATE)]

"""Target voices: who is to speak in a variant's sound.

The voices are the other speakers of the corpus' training split, those of a folder, or those of a
dataset (`augment.audio.voice_sources`). A target is never the source's own speaker.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from augment import waveform
from augment.audio import silence
from augment.audio.voice_sources import CORPUS, Clip, clips_of, of_corpus
from pipelines import media
from pipelines.errors import RowError

if TYPE_CHECKING:
    from augment.audio.settings import AudioSettings
    from pipelines.store import StoreReader

LEVEL_CLIPS = 6
"""Clips that a speaker's usual pitch is taken from."""
FEMALE_HZ = 160.0
"""Usual pitch from which an untagged voice is taken for a woman's.

Men's lie about 119 Hz and women's about 207 Hz, whose geometric mean is 157 Hz; a guess, wrong of high
men's and low women's voices and of whoever is excited.

References:
    Traunmüller and Eriksson 1995, "The frequency range of the voice fundamental in the speech of male
    and female adults".
"""

Bank = dict[str, list[Clip]]
"""Clips of each speaker."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """A voice to convert to."""

    speaker: str
    clip: str
    """The row's id, the file's path in its folder, or its place in a dataset."""
    samples: np.ndarray
    """float32 mono (samples,) in [-1, 1] at 16 kHz: speech without long pauses."""
    sha256: str
    """Of the clip's bytes."""
    gender: str | None
    """The source's, which the target was to have; None where any would do."""


class VoiceBank:
    """Speakers and their clips; draws a target and knows how high each speaker's voice is.

    Args:
        settings: `voices` is `corpus`, a folder, or a dataset.
        reader: The store that is augmented.

    Raises:
        UsageError: If the folder holds no speech, or if there is no such dataset.
    """

    def __init__(self, settings: AudioSettings, reader: StoreReader) -> None:
        self._reader, self._settings = reader, settings
        self._sources = _by_speaker(of_corpus(reader))
        self._targets = _by_speaker(clips_of(settings, reader))
        self._levels: dict[tuple[str, ...], float] = {}

    def draw(self, row: dict[str, Any], rng: np.random.Generator) -> Target:
        """A voice other than a row's: speakers have equal chances, and then their clips.

        Raises:
            RowError: If there is no other speaker, or none of the gender that is asked for, or if the clip
                is silent or not finite.
        """
        speakers = sorted(name for name in self._targets if name != row["group"])
        if not speakers:
            raise RowError(
                f"{row['id']}: no voice but its own speaker's ({row['group']}) is in {self._place}; name a"
                " folder of voices in augment.audio.voices"
            )
        gender = None if self._settings.target_gender == "any" else self._wanted(row)
        speaker = self._speaker(row, speakers, gender, rng)
        clips = self._targets[speaker]
        clip = clips[rng.integers(len(clips))]
        encoded = self._encoded(clip)
        samples = self._reference(encoded)
        waveform.level(f"{row['id']}: the voice {speaker} ({clip.name})", samples)
        return Target(
            speaker=speaker,
            clip=clip.name,
            samples=samples,
            sha256=hashlib.sha256(encoded).hexdigest(),
            gender=gender,
        )

    def apart(self, source: str, target: str) -> float | None:
        """Octaves by which a target speaker's voice is usually higher than a source speaker's.

        Medians over several clips, so that the mood of one clip does not count. None where one of
        them has no pitch.
        """
        difference = self._level(self._targets[target]) - self._level(self._sources.get(source, []))
        return None if np.isnan(difference) else float(difference)

    def gender(self, speaker: str) -> str | None:
        """A speaker's gender: as tagged in the bank, else a guess from the usual pitch (`FEMALE_HZ`).

        None where there is neither a tag nor a pitch.
        """
        clips = self._targets.get(speaker) or self._sources.get(speaker, [])
        tagged = next((clip.gender for clip in clips if clip.gender), None)
        octaves = float("nan") if tagged else self._level(clips)
        if np.isnan(octaves):
            return tagged
        return "female" if 2**octaves >= FEMALE_HZ else "male"

    @property
    def _place(self) -> str:
        return "the training split" if self._settings.voices == CORPUS else self._settings.voices

    def _wanted(self, row: dict[str, Any]) -> str:
        gender = self.gender(row["group"])
        if gender is None:
            raise RowError(
                f"{row['id']}: the gender of {row['group']} is neither tagged nor to be told from a pitch;"
                " list the speaker in the bank's voices.csv, or set augment.audio.target_gender: any"
            )
        return gender

    def _speaker(
        self, row: dict[str, Any], speakers: list[str], gender: str | None, rng: np.random.Generator
    ) -> str:
        """One of the speakers; of a gender, the first in a random order, so that few have to be heard."""
        if gender is None:
            return speakers[rng.integers(len(speakers))]
        for index in rng.permutation(len(speakers)):
            if self.gender(speakers[index]) == gender:
                return speakers[index]
        raise RowError(
            f"{row['id']}: none of the {len(speakers)} other voices in {self._place} is {gender}, as"
            f" {row['group']} is; add one, or set augment.audio.target_gender: any"
        )

    def _level(self, clips: list[Clip]) -> float:
        """Median pitch in octaves over a speaker's first clips; NaN where there is none."""
        first = clips[:LEVEL_CLIPS]
        key = tuple(f"{type(clip.at).__name__} {clip.name}" for clip in first)
        if key not in self._levels:
            middles = [middle for middle in map(self._middle, first) if not np.isnan(middle)]
            self._levels[key] = float(np.median(middles)) if middles else float("nan")
        return self._levels[key]

    def _middle(self, clip: Clip) -> float:
        import torch

        from augment.voice_conversion import pitch

        samples = self._reference(self._encoded(clip))
        if not np.isfinite(samples).all():
            return float("nan")
        return pitch.middle(pitch.track(torch.from_numpy(samples)))

    def _reference(self, encoded: bytes) -> np.ndarray:
        """The first seconds of a file's speech."""
        samples = silence.trimmed(media.read_audio(encoded))
        return samples[: round(self._settings.reference_s * silence.SAMPLING_RATE)]

    def _encoded(self, clip: Clip) -> bytes:
        if isinstance(clip.at, bytes):
            return clip.at
        if isinstance(clip.at, Path):
            return clip.at.read_bytes()
        return self._reader.row(clip.at)["audio"]["bytes"]


def _by_speaker(clips: Iterable[Clip]) -> Bank:
    speakers: Bank = {}
    for clip in clips:
        speakers.setdefault(clip.speaker, []).append(clip)
    return speakers

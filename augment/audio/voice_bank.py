"""Target voices: the speakers that audio variants are converted to.

The voices are the other speakers of the corpus' training split, those of a folder, or those of a dataset
(`augment.audio.voice_sources`). A target is never the source's own speaker.
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
from pipelines.decoding.source_file import read_bytes
from pipelines.errors import RowError

if TYPE_CHECKING:
    from augment.audio.settings import AudioSettings
    from pipelines.store import StoreReader

PITCH_CLIPS = 6  # clips that a speaker's median pitch is taken from
FEMALE_HZ = 160.0
"""Median pitch from which an untagged voice is taken to be female.

Men's voices are at about 119 Hz and women's at about 207 Hz, with a geometric mean of 157 Hz. This is a
guess; it fails for high male, low female and excited voices.

References:
    Traunmüller and Eriksson 1995, "The frequency range of the voice fundamental in the speech of male
    and female adults".
"""


@dataclass(frozen=True, kw_only=True)
class Target:
    """A voice to convert to."""

    speaker: str
    clip: str  # the row's id, the file's path in its folder, or the index in a dataset
    samples: np.ndarray  # float32 mono (samples,) in [-1, 1] at 16 kHz: speech without long pauses
    sha256: str  # of the clip's bytes
    gender: str | None  # the source's, if the target had to have the same


class VoiceBank:
    """Speakers and their clips; draws targets and compares the speakers' pitch.

    Args:
        settings: `voices` is `corpus`, a folder, or a dataset.
        reader: The store that is augmented.

    Raises:
        UsageError: If the folder contains no speech, or the dataset does not exist.
    """

    def __init__(self, settings: AudioSettings, reader: StoreReader) -> None:
        self._reader, self._settings = reader, settings
        self._sources = _by_speaker(of_corpus(reader))
        self._targets = _by_speaker(clips_of(settings, reader))
        self._medians: dict[tuple[Clip, ...], float] = {}

    def draw(self, row: dict[str, Any], rng: np.random.Generator) -> Target:
        """A voice other than a row's: first a speaker, all equally likely, then one of their clips.

        Raises:
            RowError: If there is no other speaker, or none of the wanted gender, or if the clip is silent
                or not finite.
        """
        own, voices = row["group"], self._settings.voices
        place = "the training split" if voices == CORPUS else voices
        speakers = sorted(name for name in self._targets if name != own)
        if not speakers:
            raise RowError(
                f"{row['id']}: {place} has no voice other than its own speaker's ({own}); set"
                " augment.audio.voices to a folder of voices"
            )
        gender = None
        if self._settings.target_gender == "any":
            speaker = speakers[rng.integers(len(speakers))]
        else:
            gender = self._gender_of(row)
            # In random order, so that the pitch of few speakers has to be tracked.
            shuffled = (speakers[index] for index in rng.permutation(len(speakers)))
            matching = next((name for name in shuffled if self.gender(name) == gender), None)
            if matching is None:
                raise RowError(
                    f"{row['id']}: none of the {len(speakers)} other voices in {place} is {gender}, as"
                    f" {own} is; add one, or set augment.audio.target_gender: any"
                )
            speaker = matching
        clips = self._targets[speaker]
        clip = clips[rng.integers(len(clips))]
        encoded = self._encoded(clip)
        samples = self._reference(clip, encoded)
        waveform.level(f"{row['id']}: the voice {speaker} ({clip.name})", samples)
        sha256 = hashlib.sha256(encoded).hexdigest()
        return Target(speaker=speaker, clip=clip.name, samples=samples, sha256=sha256, gender=gender)

    def pitch_difference(self, source: str, target: str) -> float | None:
        """Octaves by which a target speaker's median pitch is above a source speaker's.

        The medians are over several clips, so that the mood of one clip does not matter. None if one of
        the speakers has no pitch.
        """
        difference = self._median(self._targets[target]) - self._median(self._sources.get(source, []))
        return None if np.isnan(difference) else float(difference)

    def gender(self, speaker: str) -> str | None:
        """A speaker's gender: as tagged in the bank, else a guess from the median pitch (`FEMALE_HZ`).

        None if there is neither a tag nor a pitch.
        """
        clips = self._targets.get(speaker) or self._sources.get(speaker, [])
        tagged = next((clip.gender for clip in clips if clip.gender), None)
        octaves = float("nan") if tagged else self._median(clips)
        if np.isnan(octaves):
            return tagged
        return "female" if 2**octaves >= FEMALE_HZ else "male"

    def _gender_of(self, row: dict[str, Any]) -> str:
        gender = self.gender(row["group"])
        if gender is None:
            raise RowError(
                f"{row['id']}: {row['group']} has neither a gender tag nor a pitch to guess the gender from;"
                " list the speaker in the bank's voices.csv, or set augment.audio.target_gender: any"
            )
        return gender

    def _median(self, clips: list[Clip]) -> float:
        """Median log2 of the pitch in Hz over a speaker's first clips; NaN if there is none."""
        import torch

        from augment.voice_conversion import pitch

        first = tuple(clips[:PITCH_CLIPS])
        if first not in self._medians:
            medians = []
            for clip in first:
                samples = self._reference(clip, self._encoded(clip))
                if np.isfinite(samples).all():
                    medians.append(pitch.median_log_f0(pitch.track(torch.from_numpy(samples))))
            voiced = [median for median in medians if not np.isnan(median)]
            self._medians[first] = float(np.median(voiced)) if voiced else float("nan")
        return self._medians[first]

    def _reference(self, clip: Clip, encoded: bytes) -> np.ndarray:
        """The first seconds of speech in a clip."""
        try:
            samples = silence.trimmed(media.read_audio(encoded))
        except media.MediaError as error:
            raise RowError(f"the voice {clip.speaker} ({clip.name}) cannot be used: {error}") from error
        return samples[: round(self._settings.reference_s * silence.SAMPLING_RATE)]

    def _encoded(self, clip: Clip) -> bytes:
        if isinstance(clip.at, bytes):
            return clip.at
        if isinstance(clip.at, Path):
            try:
                return read_bytes(clip.at)
            except media.MediaError as error:
                raise RowError(f"the voice {clip.speaker} ({clip.name}) cannot be used: {error}") from error
        return self._reader.row(clip.at)["audio"]["bytes"]


def _by_speaker(clips: Iterable[Clip]) -> dict[str, list[Clip]]:
    speakers: dict[str, list[Clip]] = {}
    for clip in clips:
        speakers.setdefault(clip.speaker, []).append(clip)
    return speakers

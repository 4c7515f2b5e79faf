"""Recordings to train the voice converter on: a folder of speech, read once, and lessons drawn from it.

Reading takes the files as `voices.csv` or the folders tell whose they are, trims them to speech, brings
them to one loudness and tracks their pitch; what came of it lies in a folder beside the training, 116 MB
an hour of speech, and is what the training reads from then on.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from augment import waveform
from augment.audio.silence import trimmed
from augment.audio.voice_sources import Clip, of_folder
from augment.training.voice.batches import FRAMES, PROMPT_FRAMES, Batch, Lesson, lengths, together
from augment.training.voice.perturbation import disguised
from augment.training.voice.puppet_speech import PCM
from augment.voice_conversion import pitch
from augment.voice_conversion.conditioning import LOUDNESS, pulse_mel
from augment.voice_conversion.mel import HOP, SAMPLING_RATE, frame_count, log_mel
from pipelines import media
from pipelines.atomic import write_json, write_json_lines
from pipelines.errors import UsageError

HELD_OUT = 0.1
"""Share of the speakers, or of a lone speaker's files, that is not trained on."""
ALONE = FRAMES[1] + PROMPT_FRAMES[1]
"""Least frames of a speaker's only recording, which must hold a reference beside the stretch."""
_MARGIN = 4
"""Frames around a stretch that are heard too, so that its spectrogram is that of the whole."""


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """One recording among all."""

    name: str
    speaker: str
    start: int
    """Of its samples among all recordings'."""
    samples: int
    start_frame: int
    """Of its pitch among all recordings'."""

    @property
    def frames(self) -> int:
        return frame_count(self.samples)


def read_folder(folder: Path, out: Path, setting: str = "speech") -> None:
    """Read a folder of speech into `out`, unless that was done.

    A file that cannot be read, is silent, or holds less than `FRAMES[1]` frames of speech (`ALONE` where it
    is its speaker's only one) is told of, and stands in `failures.jsonl`.

    Args:
        folder: As `voice_sources.of_folder` takes it.
        out: Gets `samples.s16`, `pitch.f32`, `failures.jsonl`, and at last `sounds.json`.
        setting: That named the folder, for messages.

    Raises:
        UsageError: If there is no file that can be used.
    """
    if (out / "sounds.json").exists():
        return
    clips = of_folder(folder, setting, "puppets, or a folder of speech")
    out.mkdir(parents=True, exist_ok=True)
    failures: list[dict[str, str]] = []
    found = _read(clips, out, failures)
    for failure in failures:
        print(f"{setting}: {failure['file']} is left out: {failure['error']}")
    write_json_lines(out / "failures.jsonl", failures)
    if not found:
        raise UsageError(
            f"{setting}: none of the {len(clips)} files in {folder} can be used;"
            f" {out / 'failures.jsonl'} tells why"
        )
    write_json(out / "sounds.json", [asdict(sound) for sound in found])
    minutes = sum(sound.samples for sound in found) / SAMPLING_RATE / 60
    print(
        f"{setting}: {len(found)} of {len(clips)} files, {len({sound.speaker for sound in found})} speakers,"
        f" {minutes:.1f} minutes; {len(failures)} left out",
        flush=True,
    )


def _read(clips: list[Clip], out: Path, failures: list[dict[str, str]]) -> list[Recorded]:
    """The recordings that can be used, written to the files; the others are added to `failures`."""
    from tqdm import tqdm

    found: list[Recorded] = []
    with (out / "samples.s16").open("wb") as samples, (out / "pitch.f32").open("wb") as contours:
        for clip in tqdm(clips, desc="speech", mininterval=10):
            try:
                found.append(_add(clip, samples, contours))
            except (ValueError, OSError) as error:
                failures.append({"file": clip.name, "error": str(error)})
    spoken = Counter(sound.speaker for sound in found)
    alone = {sound for sound in found if spoken[sound.speaker] == 1 and sound.frames < ALONE}
    for sound in sorted(alone, key=lambda sound: sound.name):
        reason = f"{_seconds(sound.frames)} of speech are all of its speaker; {_seconds(ALONE)} are needed"
        failures.append({"file": sound.name, "error": reason})
    return [sound for sound in found if sound not in alone]


def _add(clip: Clip, samples: BinaryIO, contours: BinaryIO) -> Recorded:
    """Append a clip's samples and pitch to the files; ValueError if it is of no use."""
    assert isinstance(clip.at, Path)
    heard = trimmed(media.read_audio(clip.at))
    level = waveform.level("sound", heard)
    if frame_count(len(heard)) < FRAMES[1]:
        raise ValueError(
            f"{_seconds(frame_count(len(heard)))} of speech; at least {_seconds(FRAMES[1])} are needed"
        )
    sound = torch.from_numpy(heard) * (LOUDNESS / level)
    recorded = Recorded(
        name=clip.name,
        speaker=clip.speaker,
        start=samples.tell() // 2,
        samples=len(heard),
        start_frame=contours.tell() // 4,
    )
    samples.write((sound * PCM).round().clamp(-PCM, PCM - 1).numpy().astype(np.int16).tobytes())
    contours.write(pitch.track(sound).numpy().astype(np.float32).tobytes())
    return recorded


def _seconds(frames: int) -> str:
    return f"{frames * HOP / SAMPLING_RATE:.2f} s"


class Recordings:
    """Draws lessons from recordings; speakers have equal chances, and then their recordings.

    The result is a stretch of a recording, the source that stretch disguised, and the reference a stretch
    of another recording of the speaker, or of the same one elsewhere where there is just one.

    Args:
        folder: That `read_folder` wrote.
        chosen: Of its recordings.
    """

    def __init__(self, folder: Path, chosen: list[Recorded]) -> None:
        self._samples = np.memmap(folder / "samples.s16", np.int16, "r")
        self._pitch = np.memmap(folder / "pitch.f32", np.float32, "r")
        by_speaker: dict[str, list[Recorded]] = {}
        for sound in chosen:
            by_speaker.setdefault(sound.speaker, []).append(sound)
        self.speakers = [
            spoken for spoken in by_speaker.values() if len(spoken) > 1 or spoken[0].frames >= ALONE
        ]

    def batch(self, size: int, rng: np.random.Generator) -> Batch:
        """Draw stretches, whose lengths are one for all."""
        frames, prompt_frames = lengths(rng)
        return together([self._lesson(rng, frames, prompt_frames) for _ in range(size)])

    def sound(self) -> np.ndarray:
        """The first speaker's first recording."""
        first = self.speakers[0][0]
        return self._heard(first, 0, first.samples)

    def _lesson(self, rng: np.random.Generator, length: int, prompt_length: int) -> Lesson:
        spoken = self.speakers[rng.integers(len(self.speakers))]
        number = int(rng.integers(len(spoken)))
        sound = spoken[number]
        if len(spoken) > 1:
            other = spoken[(number + int(rng.integers(1, len(spoken)))) % len(spoken)]
            start = int(rng.integers(sound.frames - length + 1))
            prompt_start = int(rng.integers(other.frames - prompt_length + 1))
        else:
            other = sound
            start, prompt_start = _apart(rng, sound.frames, length, prompt_length)
        near, mel, contour = self._stretch(sound, start, length)
        prompt_near, prompt, prompt_contour = self._stretch(other, prompt_start, prompt_length)
        source, octaves = disguised(near, rng)
        seed = torch.Generator().manual_seed(int(rng.integers(2**62)))
        return Lesson(
            source_samples=_without_margin(source),
            source=_mel(source),
            source_pitch=contour * 2**octaves,
            mel=mel,
            pitch=contour,
            pulses=pulse_mel(contour, seed),
            prompt_samples=_without_margin(prompt_near),
            prompt=prompt,
            prompt_pitch=prompt_contour,
            prompt_pulses=pulse_mel(prompt_contour, seed),
        )

    def _stretch(
        self, sound: Recorded, start: int, frames: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Samples with `_MARGIN` frames around them, silent beyond the recording; mel spectrogram; pitch."""
        first, length = (start - _MARGIN) * HOP, (frames - 1 + 2 * _MARGIN) * HOP
        before = max(0, -first)
        heard = self._heard(sound, first + before, first + length)
        near = torch.from_numpy(np.pad(heard, (before, length - before - len(heard))))
        at = sound.start_frame + start
        return near, _mel(near), torch.from_numpy(np.array(self._pitch[at : at + frames]))

    def _heard(self, sound: Recorded, first: int, stop: int) -> np.ndarray:
        stop = min(stop, sound.samples)
        return self._samples[sound.start + first : sound.start + stop].astype(np.float32) / PCM


def _mel(near: torch.Tensor) -> torch.Tensor:
    return log_mel(near)[_MARGIN:-_MARGIN]


def _without_margin(near: torch.Tensor) -> torch.Tensor:
    return near[_MARGIN * HOP : -_MARGIN * HOP]


def _apart(rng: np.random.Generator, frames: int, length: int, prompt_length: int) -> tuple[int, int]:
    """Where two stretches of a sound begin that have no frame in common."""
    spare = frames - length - prompt_length
    before, after = np.sort(rng.integers(spare + 1, size=2))
    if rng.random() < 0.5:
        return int(before), int(after) + length
    return int(after) + prompt_length, int(before)


def split(folder: Path, seed: int, setting: str = "speech") -> tuple[Recordings, Recordings]:
    """Recordings to train on, and those held out: of other speakers, or of a lone speaker other files.

    Args:
        folder: That `read_folder` wrote.
        seed: Draws what is held out.
        setting: That named the folder, for messages.

    Raises:
        UsageError: If there is too little for both.
    """
    found = [Recorded(**sound) for sound in json.loads((folder / "sounds.json").read_text(encoding="utf-8"))]
    speakers = sorted({sound.speaker for sound in found})
    key = "speaker" if len(speakers) > 1 else "name"
    names = speakers if len(speakers) > 1 else sorted(sound.name for sound in found)
    # Two files of a lone speaker can be each other's references.
    least = 2 if key == "name" and len(names) > 3 else 1
    count = max(least, round(HELD_OUT * len(names)))
    kept: Any = set(np.random.default_rng(seed).permutation(names)[:count].tolist())
    parts = [
        Recordings(folder, [sound for sound in found if (getattr(sound, key) in kept) == held])
        for held in (False, True)
    ]
    if not all(part.speakers for part in parts):
        raise UsageError(
            f"{setting}: {len(found)} usable files of {len(speakers)} speakers are too few to train on some"
            " and hold others out; take two speakers or more, or four files of one"
        )
    return parts[0], parts[1]

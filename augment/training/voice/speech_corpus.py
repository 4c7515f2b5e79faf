"""Recordings to train the voice converter on: a folder of speech, read once, and examples drawn from it.

Reading assigns speakers to the files by `voices.csv` or by folder, trims the files to speech, scales them to
one loudness and tracks their pitch. The result is stored in a folder of the training, at 116 MB per hour of
speech, and training reads only that.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from augment import waveform
from augment.audio.silence import trimmed
from augment.audio.voice_sources import Clip, of_folder
from augment.training.voice.batches import FRAMES, PROMPT_FRAMES, Example
from augment.training.voice.perturbation import perturbed_speech
from augment.training.voice.puppet_speech import PCM
from augment.voice_conversion import pitch
from augment.voice_conversion.conditioning import LOUDNESS, excitation_mel
from augment.voice_conversion.mel import HOP, SAMPLING_RATE, frame_count, log_mel
from pipelines import media
from pipelines.atomic import write_json, write_json_lines
from pipelines.errors import UsageError
from pipelines.untrusted.plain_json import parsed_json

HELD_OUT = 0.1  # share of the speakers, or of a single speaker's files, that is not trained on
# A speaker's only recording must be long enough for a stretch and a prompt beside it.
LEAST_ONLY_FRAMES = FRAMES[1] + PROMPT_FRAMES[1]
_MARGIN = 4  # frames read around a stretch, so that its spectrogram is that of the whole recording


@dataclass(frozen=True, kw_only=True)
class Recording:
    """One recording of the corpus."""

    name: str
    speaker: str
    start: int  # of its samples in the file of all recordings
    samples: int
    start_frame: int  # of its pitch in the file of all recordings

    @property
    def frames(self) -> int:
        return frame_count(self.samples)


def read_folder(folder: Path, out: Path, setting: str = "speech") -> None:
    """Read a folder of speech into `out`, unless that was done already.

    Files that cannot be read, are silent, or contain less than `FRAMES[1]` frames of speech
    (`LEAST_ONLY_FRAMES` for a speaker's only file) are reported, also in `failures.jsonl`.

    Args:
        folder: As for `voice_sources.of_folder`.
        out: Folder for `samples.s16`, `pitch.f32`, `failures.jsonl`, and last `sounds.json`.
        setting: The setting that names the folder, for messages.

    Raises:
        UsageError: If no file can be used.
    """
    if (out / "sounds.json").exists():
        return
    clips = of_folder(folder, setting, "puppets, or a folder of speech")
    out.mkdir(parents=True, exist_ok=True)
    failures: list[dict[str, str]] = []
    recordings = _read(clips, out, failures)
    for failure in failures:
        print(f"{setting}: {failure['file']} is left out: {failure['error']}")
    write_json_lines(out / "failures.jsonl", failures)
    if not recordings:
        raise UsageError(
            f"{setting}: none of the {len(clips)} files in {folder} can be used;"
            f" {out / 'failures.jsonl'} tells why"
        )
    write_json(out / "sounds.json", [asdict(recording) for recording in recordings])
    minutes = sum(recording.samples for recording in recordings) / SAMPLING_RATE / 60
    speakers = {recording.speaker for recording in recordings}
    print(
        f"{setting}: {len(recordings)} of {len(clips)} files, {len(speakers)} speakers,"
        f" {minutes:.1f} minutes; {len(failures)} left out",
        flush=True,
    )


def _read(clips: list[Clip], out: Path, failures: list[dict[str, str]]) -> list[Recording]:
    """Write the usable recordings to the files and return them; the others are added to `failures`."""
    from tqdm import tqdm

    read: list[Recording] = []
    with (out / "samples.s16").open("wb") as samples, (out / "pitch.f32").open("wb") as contours:
        for clip in tqdm(clips, desc="speech", mininterval=10):
            try:
                read.append(_append(clip, samples, contours))
            except (ValueError, OSError) as error:
                failures.append({"file": clip.name, "error": str(error)})
    count = Counter(each.speaker for each in read)
    too_short = {each for each in read if count[each.speaker] == 1 and each.frames < LEAST_ONLY_FRAMES}
    for each in sorted(too_short, key=lambda each: each.name):
        reason = f"{_seconds(each.frames)} of speech in its speaker's only file; at least"
        failures.append({"file": each.name, "error": f"{reason} {_seconds(LEAST_ONLY_FRAMES)} are needed"})
    return [each for each in read if each not in too_short]


def _append(clip: Clip, samples: BinaryIO, contours: BinaryIO) -> Recording:
    """Append a clip's samples and pitch to the files; raises ValueError if it cannot be used."""
    assert isinstance(clip.at, Path)
    speech = trimmed(media.read_audio(clip.at))
    level = waveform.level("sound", speech)
    if frame_count(len(speech)) < FRAMES[1]:
        raise ValueError(
            f"{_seconds(frame_count(len(speech)))} of speech; at least {_seconds(FRAMES[1])} are needed"
        )
    scaled = torch.from_numpy(speech) * (LOUDNESS / level)
    recording = Recording(
        name=clip.name,
        speaker=clip.speaker,
        start=samples.tell() // 2,
        samples=len(speech),
        start_frame=contours.tell() // 4,
    )
    samples.write((scaled * PCM).round().clamp(-PCM, PCM - 1).numpy().astype(np.int16).tobytes())
    contours.write(pitch.track(scaled).numpy().astype(np.float32).tobytes())
    return recording


def _seconds(frames: int) -> str:
    return f"{frames * HOP / SAMPLING_RATE:.2f} s"


class Recordings:
    """Draws examples from recordings; a `Speech`. Speakers are equally likely, then their recordings.

    The output is a stretch of a recording, the source that stretch with its voice perturbed, and the prompt
    a stretch of another recording of the speaker, or of the same one elsewhere if it is the only one.

    Args:
        folder: The folder that `read_folder` wrote.
        chosen: The recordings to use.
    """

    def __init__(self, folder: Path, chosen: list[Recording]) -> None:
        self._samples = np.memmap(folder / "samples.s16", np.int16, "r")
        self._pitch = np.memmap(folder / "pitch.f32", np.float32, "r")
        by_speaker: dict[str, list[Recording]] = {}
        for recording in chosen:
            by_speaker.setdefault(recording.speaker, []).append(recording)
        self.speakers = [
            own for own in by_speaker.values() if len(own) > 1 or own[0].frames >= LEAST_ONLY_FRAMES
        ]

    def recording(self) -> np.ndarray:
        """The first speaker's first recording."""
        first = self.speakers[0][0]
        return self._read(first, 0, first.samples)

    def example(self, rng: np.random.Generator, frames: int, prompt_frames: int) -> Example:
        """Draw a stretch and a prompt of the same speaker."""
        own = self.speakers[rng.integers(len(self.speakers))]
        number = int(rng.integers(len(own)))
        recording = own[number]
        if len(own) > 1:
            other = own[(number + int(rng.integers(1, len(own)))) % len(own)]
            start = int(rng.integers(recording.frames - frames + 1))
            prompt_start = int(rng.integers(other.frames - prompt_frames + 1))
        else:
            other = recording
            start, prompt_start = _disjoint(rng, recording.frames, frames, prompt_frames)
        samples, mel, contour = self._stretch(recording, start, frames)
        prompt_samples, prompt, prompt_contour = self._stretch(other, prompt_start, prompt_frames)
        source, octaves = perturbed_speech(samples, rng)
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        within = slice(_MARGIN * HOP, -_MARGIN * HOP)
        return Example(
            source_samples=source[within],
            source=log_mel(source)[_MARGIN:-_MARGIN],
            source_pitch=contour * 2**octaves,
            mel=mel,
            pitch=contour,
            excitation_mel=excitation_mel(contour, generator),
            prompt_samples=prompt_samples[within],
            prompt=prompt,
            prompt_pitch=prompt_contour,
            prompt_excitation_mel=excitation_mel(prompt_contour, generator),
        )

    def _stretch(
        self, recording: Recording, start: int, frames: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Samples of a stretch with `_MARGIN` frames around it, zero-padded; mel spectrogram; pitch."""
        first, length = (start - _MARGIN) * HOP, (frames - 1 + 2 * _MARGIN) * HOP
        before = max(0, -first)
        read = self._read(recording, first + before, first + length)
        samples = torch.from_numpy(np.pad(read, (before, length - before - len(read))))
        frame = recording.start_frame + start
        contour = torch.from_numpy(np.array(self._pitch[frame : frame + frames]))
        return samples, log_mel(samples)[_MARGIN:-_MARGIN], contour

    def _read(self, recording: Recording, first: int, stop: int) -> np.ndarray:
        stop = min(stop, recording.samples)
        return self._samples[recording.start + first : recording.start + stop].astype(np.float32) / PCM


def _disjoint(rng: np.random.Generator, frames: int, length: int, prompt_length: int) -> tuple[int, int]:
    """The starts of two stretches of a recording that do not overlap."""
    spare = frames - length - prompt_length
    before, after = np.sort(rng.integers(spare + 1, size=2))
    if rng.random() < 0.5:
        return int(before), int(after) + length
    return int(after) + prompt_length, int(before)


def split(folder: Path, seed: int, setting: str = "speech") -> tuple[Recordings, Recordings]:
    """Recordings to train on, and held-out ones: of other speakers, or other files of a single speaker.

    Args:
        folder: The folder that `read_folder` wrote.
        seed: Draws what is held out.
        setting: The setting that names the folder, for messages.

    Raises:
        UsageError: If there are too few for both.
    """
    stored = parsed_json((folder / "sounds.json").read_text(encoding="utf-8"))
    recordings = [Recording(**each) for each in stored]
    speakers = sorted({recording.speaker for recording in recordings})
    key = "speaker" if len(speakers) > 1 else "name"
    names = speakers if len(speakers) > 1 else sorted(recording.name for recording in recordings)
    # Two files of a single speaker can be each other's prompts.
    least = 2 if key == "name" and len(names) > 3 else 1
    count = max(least, round(HELD_OUT * len(names)))
    held_out: Any = set(np.random.default_rng(seed).permutation(names)[:count].tolist())
    parts = [
        Recordings(folder, [each for each in recordings if (getattr(each, key) in held_out) == held])
        for held in (False, True)
    ]
    if not all(part.speakers for part in parts):
        raise UsageError(
            f"{setting}: {len(recordings)} usable files of {len(speakers)} speakers are too few to train on"
            " some and hold others out; take two speakers or more, or four files of one"
        )
    return parts[0], parts[1]

"""Speech to train the voice converter on: puppets of the studio cast, many voices saying the same thing.

A take is a sentence in a mood, said by several voices in the same time: what differs between two
sounds of a take is the voice alone, so one can be the source and another the wanted result. The
sounds are kept in a file, for making them takes longer than reading them.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from augment.training.voice.batches import FRAMES, Batch, Lesson, lengths, samples_of, together
from augment.voice_conversion.conditioning import LOUDNESS, pulse_mel
from augment.voice_conversion.mel import log_mel
from augment.voice_conversion.pitch import track
from pipelines.row import row_seed

if TYPE_CHECKING:
    from pipelines.puppets.voice import Voice


PCM = 32_768
"""What stands for an amplitude of 1 in samples of 16 bits."""

# Beside the puppets' own sentences, words that have all of English's sounds between them.
WORDS = (
    "measure azure beige garage thing bath brother either church joy judge cheap yellow young use water "
    "wheel quick square queen boy noise oil voice cow house loud sound air chair bear care ear fear here "
    "year tour sure cure father calm palm card bird her word nurse sun love cup blood book put good could "
    "moon blue two shoe cat hand map dance bed head said many sit milk busy women see key people machine "
    "day rain eight break my high buy eye go boat toe know shop fish nation ocean zoo nose rose scissors "
    "very of give five funny phone laugh off sing finger bank long no sun man comb lamp red right wrong "
    "little bottle apple table strength twelfth sixth months asked texts splash scratch stream spring "
    "three throw shrug black glass fly slow green cry train drive brown pretty small sky stay snow swim "
    "twin dwarf cube few music beauty view onion canyon hello again about sofa banana camera problem "
    "family seven open happen button sudden garden mountain certain rhythm system listen often whistle"
)


@dataclass(frozen=True, kw_only=True)
class Take:
    """One sentence in several voices, frame by frame alike."""

    voices: np.ndarray
    """Index of each voice, int64 (sounds,)."""
    samples: np.ndarray
    """At 16 kHz, int16 (sounds, samples)."""
    mel: np.ndarray
    """float16 (sounds, frames, 80)."""
    pitch: np.ndarray
    """Hz, 0 where unvoiced, float32 (sounds, frames)."""


def load_takes(file: Path) -> list[Take]:
    """Read what `make_takes` has written."""
    names = [field.name for field in fields(Take)]
    with np.load(file, allow_pickle=False) as arrays:
        count = int(arrays["takes"])
        return [Take(**{name: arrays[f"{name}{take}"] for name in names}) for take in range(count)]


def make_takes(file: Path, *, takes: int, voices: int, seed: int, sounds: int = 6) -> None:
    """Let puppets of the studio cast speak, and write what they said.

    Args:
        file: Is written, as `.npz`.
        takes: How many sentences are said.
        voices: How many voices there are.
        seed: Of all that is drawn.
        sounds: By how many voices a sentence is said.
    """
    from tqdm import tqdm

    from pipelines.puppets.voice import random_voice

    rng = np.random.default_rng(seed)
    cast = [random_voice(rng, "studio") for _ in range(voices)]
    arrays: dict[str, Any] = {"takes": np.array(takes)}
    for take in tqdm(range(takes), desc="takes", mininterval=10):
        chosen = rng.choice(voices, size=sounds, replace=False)
        waves = say_together([cast[voice] for voice in chosen], row_seed(seed, f"take {take}"))
        arrays[f"voices{take}"] = chosen
        for name, value in _features(waves).items():
            arrays[f"{name}{take}"] = value
    unfinished = file.with_suffix(".unfinished.npz")
    np.savez(unfinished, **arrays)
    unfinished.rename(file)


def say_together(voices: list[Voice], seed: int) -> np.ndarray:
    """A sentence and a mood drawn by seed, said by each voice in the same time.

    Returns:
        float32 (voices, samples) at 16 kHz, of loudness `LOUDNESS`.
    """
    from pipelines.puppets.script import sentence
    from pipelines.puppets.voice import render

    rng = np.random.default_rng(seed)
    mood, pace = rng.uniform(-1, 1), rng.uniform(0.9, 1.2)
    text = (
        sentence(mood, rng, "studio") if rng.random() < 0.5 else " ".join(rng.choice(WORDS.split(), size=6))
    )
    said = [
        render(text, replace(voice, pace=pace), valence=mood, rng=np.random.default_rng(seed))
        for voice in voices
    ]
    waves = np.stack(said)
    return waves * (LOUDNESS / np.sqrt(np.square(waves).mean(1, keepdims=True)))


def _features(waves: np.ndarray) -> dict[str, np.ndarray]:
    sounds = torch.from_numpy(waves).float()
    return {
        "samples": (waves * PCM).round().clip(-PCM, PCM - 1).astype(np.int16),
        "mel": log_mel(sounds).numpy().astype(np.float16),
        "pitch": torch.stack([track(sound) for sound in sounds]).numpy(),
    }


class Takes:
    """Draws batches from takes."""

    def __init__(self, takes: list[Take], seed: int) -> None:
        # Shorter ones than the longest stretch are left out.
        self.takes = [take for take in takes if take.mel.shape[1] >= FRAMES[1]]
        generator = torch.Generator().manual_seed(seed)
        self.pulses = [_pulses(take, generator) for take in self.takes]
        self.said: dict[int, list[tuple[int, int]]] = {}
        for number, take in enumerate(self.takes):
            for sound, voice in enumerate(take.voices):
                self.said.setdefault(int(voice), []).append((number, sound))

    def batch(self, size: int, rng: np.random.Generator) -> Batch:
        """Draw sounds, and crops that are equally long for all."""
        frames, prompt_frames = lengths(rng)
        return together([self._lesson(rng, frames, prompt_frames) for _ in range(size)])

    def sound(self) -> np.ndarray:
        """The first take, by its first voice."""
        return _samples(self.takes[0], 0).numpy()

    def _lesson(self, rng: np.random.Generator, length: int, prompt_length: int) -> Lesson:
        number = int(rng.integers(len(self.takes)))
        take = self.takes[number]
        source, wanted = (int(sound) for sound in rng.choice(len(take.voices), size=2, replace=False))
        others = [said for said in self.said[int(take.voices[wanted])] if said[0] != number]
        other, sound = others[rng.integers(len(others))] if others else (number, wanted)
        frames, prompt = _span(rng, take, length), _span(rng, self.takes[other], prompt_length)
        return Lesson(
            # Another voice than the wanted one says it: samples need no disguise.
            source_samples=_samples(take, source)[samples_of(frames)],
            source=perturbed(_mel(take, source, frames)[None], rng)[0],
            source_pitch=torch.from_numpy(take.pitch[source, frames]),
            mel=_mel(take, wanted, frames),
            pitch=torch.from_numpy(take.pitch[wanted, frames]),
            pulses=self.pulses[number][wanted, frames],
            prompt_samples=_samples(self.takes[other], sound)[samples_of(prompt)],
            prompt=_mel(self.takes[other], sound, prompt),
            prompt_pitch=torch.from_numpy(self.takes[other].pitch[sound, prompt]),
            prompt_pulses=self.pulses[other][sound, prompt],
        )


def _mel(take: Take, sound: int, frames: slice) -> torch.Tensor:
    return torch.from_numpy(take.mel[sound, frames]).float()


def _samples(take: Take, sound: int) -> torch.Tensor:
    return torch.from_numpy(take.samples[sound].astype(np.float32) / PCM)


def _pulses(take: Take, generator: torch.Generator) -> torch.Tensor:
    return torch.stack([pulse_mel(pitch, generator) for pitch in torch.from_numpy(take.pitch)])


def _span(rng: np.random.Generator, take: Take, length: int) -> slice:
    start = int(rng.integers(take.mel.shape[1] - length + 1))
    return slice(start, start + length)


def perturbed(mel: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Log mel spectrograms (batch, frames, bands) as of other voices: stretched and tilted along the bands.

    Ours: up to 6 % of stretch either way, and 3 dB of tilt.
    """
    batch, frames, bands = mel.shape
    stretch = torch.from_numpy(2 ** rng.uniform(-0.08, 0.08, size=(batch, 1))).float()
    at = (torch.arange(bands) * stretch).clamp(max=bands - 1.001)
    low = at.long()
    share = (at - low)[:, None]
    index = low[:, None].expand(-1, frames, -1)
    warped = (1 - share) * mel.gather(2, index) + share * mel.gather(2, index + 1)
    tilt_decades = torch.from_numpy(rng.uniform(-0.15, 0.15, size=(batch, 1, 1))).float()
    return warped + tilt_decades * torch.linspace(-0.5, 0.5, bands)

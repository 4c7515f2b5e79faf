"""Training data for the voice converter: puppets of the studio cast, many voices saying the same thing.

A take is a sentence in a mood, said by several voices with the same timing. Two sounds of a take differ
only in the voice, so one can be the source and the other the wanted output. The sounds are stored in a file,
as synthesising them takes longer than reading them.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from augment.training.voice.batches import FRAMES, Example, samples_of
from augment.voice_conversion.conditioning import LOUDNESS, excitation_mel
from augment.voice_conversion.mel import log_mel
from augment.voice_conversion.pitch import track
from pipelines.row import row_seed

if TYPE_CHECKING:
    from pipelines.puppets.voice import Voice


PCM = 32_768  # the 16 bit integer that stands for an amplitude of 1

# In addition to the puppets' own sentences: words that together contain all sounds of English.
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
    """One sentence in several voices, with the same timing."""

    voices: np.ndarray  # index of each sound's voice, int64 (sounds,)
    samples: np.ndarray  # at 16 kHz, int16 (sounds, samples)
    mel: np.ndarray  # float16 (sounds, frames, 80)
    pitch: np.ndarray  # Hz, 0 where unvoiced, float32 (sounds, frames)

    def samples_at(self, sound: int, span: slice = slice(None)) -> torch.Tensor:
        """Samples of a sound in [-1, 1]."""
        return torch.from_numpy(self.samples[sound].astype(np.float32) / PCM)[span]

    def mel_at(self, sound: int, frames: slice) -> torch.Tensor:
        """Frames of a sound's log mel spectrogram, float32."""
        return torch.from_numpy(self.mel[sound, frames]).float()


def load_takes(file: Path) -> list[Take]:
    """Read what `make_takes` has written."""
    names = [field.name for field in fields(Take)]
    with np.load(file, allow_pickle=False) as arrays:
        count = int(arrays["takes"])
        return [Take(**{name: arrays[f"{name}{take}"] for name in names}) for take in range(count)]


def make_takes(file: Path, *, takes: int, voices: int, seed: int, sounds: int = 6) -> None:
    """Synthesise takes with puppets of the studio cast.

    Args:
        file: The `.npz` file to write.
        takes: Number of sentences.
        voices: Number of voices.
        seed: Of everything that is drawn.
        sounds: Number of voices that say each sentence.
    """
    from tqdm import tqdm

    from pipelines.puppets.voice import random_voice

    rng = np.random.default_rng(seed)
    cast = [random_voice(rng, "studio") for _ in range(voices)]
    arrays: dict[str, Any] = {"takes": np.array(takes)}
    for take in tqdm(range(takes), desc="takes", mininterval=10):
        chosen = rng.choice(voices, size=sounds, replace=False)
        waves = say_together([cast[voice] for voice in chosen], row_seed(seed, f"take {take}"))
        tensors = torch.from_numpy(waves).float()
        arrays |= {
            f"voices{take}": chosen,
            f"samples{take}": (waves * PCM).round().clip(-PCM, PCM - 1).astype(np.int16),
            f"mel{take}": log_mel(tensors).numpy().astype(np.float16),
            f"pitch{take}": torch.stack([track(tensor) for tensor in tensors]).numpy(),
        }
    unfinished = file.with_suffix(".unfinished.npz")
    np.savez(unfinished, **arrays)
    unfinished.rename(file)


def say_together(voices: list[Voice], seed: int) -> np.ndarray:
    """A sentence and a mood drawn by seed, said by each voice with the same timing.

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
    sounds = [
        render(text, replace(voice, pace=pace), valence=mood, rng=np.random.default_rng(seed))
        for voice in voices
    ]
    waves = np.stack(sounds)
    return waves * (LOUDNESS / np.sqrt(np.square(waves).mean(1, keepdims=True)))


class Takes:
    """Draws examples from takes; a `Speech`."""

    def __init__(self, takes: list[Take], seed: int) -> None:
        # Takes shorter than the longest stretch are left out.
        self.takes = [take for take in takes if take.mel.shape[1] >= FRAMES[1]]
        generator = torch.Generator().manual_seed(seed)
        self.excitation_mels = [
            torch.stack([excitation_mel(pitch, generator) for pitch in torch.from_numpy(take.pitch)])
            for take in self.takes
        ]
        self.by_voice: dict[int, list[tuple[int, int]]] = {}  # takes and sounds
        for number, take in enumerate(self.takes):
            for sound, voice in enumerate(take.voices):
                self.by_voice.setdefault(int(voice), []).append((number, sound))

    def recording(self) -> np.ndarray:
        """The first take, by its first voice."""
        return self.takes[0].samples_at(0).numpy()

    def example(self, rng: np.random.Generator, frames: int, prompt_frames: int) -> Example:
        """Draw two voices of a take, and a prompt of the second one's voice from another take."""
        number = int(rng.integers(len(self.takes)))
        take = self.takes[number]
        source, output = (int(sound) for sound in rng.choice(len(take.voices), size=2, replace=False))
        others = [each for each in self.by_voice[int(take.voices[output])] if each[0] != number]
        other, sound = others[rng.integers(len(others))] if others else (number, output)
        prompt_take = self.takes[other]
        span, prompt_span = _span(rng, take, frames), _span(rng, prompt_take, prompt_frames)
        return Example(
            # The samples need no perturbation, as the source is another voice already.
            source_samples=take.samples_at(source, samples_of(span)),
            source=perturbed_mel(take.mel_at(source, span)[None], rng)[0],
            source_pitch=torch.from_numpy(take.pitch[source, span]),
            mel=take.mel_at(output, span),
            pitch=torch.from_numpy(take.pitch[output, span]),
            excitation_mel=self.excitation_mels[number][output, span],
            prompt_samples=prompt_take.samples_at(sound, samples_of(prompt_span)),
            prompt=prompt_take.mel_at(sound, prompt_span),
            prompt_pitch=torch.from_numpy(prompt_take.pitch[sound, prompt_span]),
            prompt_excitation_mel=self.excitation_mels[other][sound, prompt_span],
        )


def _span(rng: np.random.Generator, take: Take, length: int) -> slice:
    start = int(rng.integers(take.mel.shape[1] - length + 1))
    return slice(start, start + length)


def perturbed_mel(mel: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Log mel spectrograms (batch, frames, bands) of a changed voice, stretched and tilted along the bands.

    Our method: up to 6 % of stretch either way, and 3 dB of tilt.
    """
    batch, frames, bands = mel.shape
    stretch = torch.from_numpy(2 ** rng.uniform(-0.08, 0.08, size=(batch, 1))).float()
    position = (torch.arange(bands) * stretch).clamp(max=bands - 1.001)
    low = position.long()
    share = (position - low)[:, None]
    index = low[:, None].expand(-1, frames, -1)
    warped = (1 - share) * mel.gather(2, index) + share * mel.gather(2, index + 1)
    tilt_decades = torch.from_numpy(rng.uniform(-0.15, 0.15, size=(batch, 1, 1))).float()
    return warped + tilt_decades * torch.linspace(-0.5, 0.5, bands)

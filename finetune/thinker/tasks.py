"""Examples in perception: batches for the towers, questions and answers for the language model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from finetune.inputs.batch import Encoded, collate, padded
from finetune.inputs.chat_encoder import ChatEncoder
from finetune.inputs.chat_formats import AudioInput, VideoInput
from finetune.inputs.prompts import quoted, rating_question
from finetune.model import towers
from finetune.thinker import dataset
from finetune.thinker.dataset import FACE, LEVELS, OTHER_WORD, VOICE, Studio
from pipelines.puppets import script

DROP = 0.15
"""How often a example goes without its sound, its picture or its words, or without an answer."""
QUALITIES = list(script.QUALITIES)


@dataclass(frozen=True, kw_only=True)
class Example:
    """One question about a shuffled clip, with its answer."""

    encoded: Encoded
    """Question and answer."""
    answer_length: int
    """Tokens of the answer, at the end."""
    features: dict[str, torch.Tensor]
    """The towers' outputs for the placeholders, (tokens, width), by `video` and `audio`."""
    measures: np.ndarray
    """What the probes must find, (6,), standardised; NaN for a modality that is not shown."""
    word: int
    """Index of another fitting word; -1 without a transcript."""


class Sampler:
    """Draws examples from a studio's clips.

    Args:
        studio: The clips.
        reference: The studio whose quintiles, means and deviations are the measure of all.
        encoder: Makes inputs.
    """

    def __init__(self, studio: Studio, reference: Studio, encoder: ChatEncoder) -> None:
        self.studio, self.encoder = studio, encoder
        self.levels = studio.levels(reference.edges())
        self.measures = (studio.measures - reference.measures.mean(0)) / reference.measures.std(0)
        self.sounds = [self._sound(number) for number in range(len(studio))]
        self.grids: list[torch.Tensor] = [torch.empty(0)] * len(studio)
        self.features: dict[str, list[torch.Tensor]] = {}

    @property
    def tokenizer(self) -> Any:
        """Of the encoder's processor."""
        return self.encoder.processor.tokenizer

    def faces(self, numbers: np.ndarray, rng: np.random.Generator | None) -> dict[str, torch.Tensor]:
        """Pictures as the vision tower takes them; with `rng`, mirrored and recoloured at random."""
        videos = []
        for number in numbers:
            frames = torch.from_numpy(self.studio.frames[number, : self.studio.lengths[number]])
            if rng is not None and rng.random() < 0.5:
                frames = frames.flip(2)
            videos.append(frames.permute(0, 3, 1, 2))  # (F, 3, H, W)
        made = self.encoder.processor.video_processor(
            videos=videos, do_sample_frames=False, return_tensors="pt"
        )
        if rng is not None:
            sizes = made["video_grid_thw"].prod(-1)
            gain, shift = (torch.from_numpy(rng.normal(0, 0.1, len(numbers))).float() for _ in range(2))
            pixels = made["pixel_values_videos"] * (1 + gain.repeat_interleave(sizes))[:, None]
            made["pixel_values_videos"] = pixels + shift.repeat_interleave(sizes)[:, None]
        return dict(made)

    def voices(self, numbers: np.ndarray) -> dict[str, torch.Tensor]:
        """Spectrograms as the audio tower takes them."""
        sounds = [self.sounds[number] for number in numbers]
        mels, masks = padded([sound.mel for sound in sounds]), padded([sound.mask for sound in sounds])
        return {"input_features": mels, "feature_attention_mask": masks}

    @torch.no_grad()
    def encode_media(self, thinker: Any, at_once: int = 48) -> None:
        """Keep the towers' outputs for every clip."""
        self.features = {"video": [], "audio": []}
        for start in range(0, len(self.studio), at_once):
            numbers = np.arange(start, min(start + at_once, len(self.studio)))
            pictures = self.faces(numbers, None)
            for number, grid in zip(numbers, pictures["video_grid_thw"], strict=True):
                self.grids[number] = grid
            self.features["video"] += towers.encode_video(thinker, **pictures)
            self.features["audio"] += towers.encode_audio(thinker, **self.voices(numbers))

    def example(self, rng: np.random.Generator) -> Example:
        """Draw a example: a face, a voice and a sentence that do not belong together."""
        face, voice = (int(number) for number in rng.integers(len(self.studio), size=2))
        hears, sees, reads = _shown(rng)
        valence = rng.uniform(-1, 1)
        sentence = script.sentence(valence, rng, "studio") if reads else None
        word = script.near(script.QUALITIES, valence, rng)
        names = [*(VOICE if hears else ()), *(FACE if sees else ()), *((OTHER_WORD,) if reads else ())]
        rng.shuffle(names)
        asked = names[: rng.integers(1, len(names) + 1)]
        silent = rng.random() < DROP
        prompt = self.encoder.assemble(
            VideoInput(None, self.grids[face], float(self.studio.fps[face])) if sees else None,
            self.sounds[voice] if hears else None,
            quoted(sentence, "en"),
            rating_question("mosi", "en") if silent else dataset.question(asked),
            name=f"face {face}, voice {voice}",
        )
        answer = [] if silent else self._answer(asked, face, voice, word)
        shown = np.array([hears] * len(VOICE) + [sees] * len(FACE))
        measures = np.concatenate([self.measures[voice, : len(VOICE)], self.measures[face, len(VOICE) :]])
        features = {"video": self.features["video"][face]} if sees else {}
        return Example(
            encoded=prompt.answered(answer),
            answer_length=len(answer),
            features=features | ({"audio": self.features["audio"][voice]} if hears else {}),
            measures=np.where(shown, measures, np.nan),
            word=QUALITIES.index(word) if reads else -1,
        )

    def _answer(self, asked: list[str], face: int, voice: int, word: str) -> list[int]:
        said = []
        for name in asked:
            if name == OTHER_WORD:
                said.append(word)
            else:
                level = self.levels[voice if name in VOICE else face][(*VOICE, *FACE).index(name)]
                said.append(LEVELS[level])
        return self.tokenizer(" " + " ".join(said) + "<|im_end|>")["input_ids"]

    def _sound(self, number: int) -> AudioInput:
        samples = self.studio.samples[number, : self.studio.sound_lengths[number]]
        return self.encoder.audio_input(torch.from_numpy(samples.astype(np.float32) / 32767))


def read(thinker: Any, examples: list[Example], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The language model's output for examples, (B, L, width), and their token ids, (B, L)."""
    without_media = [
        Encoded(input_ids=example.encoded.input_ids, position_ids=example.encoded.position_ids)
        for example in examples
    ]
    batch = collate(without_media, pad_id)
    video_embeds, audio_embeds = (
        [example.features[name] for example in examples if name in example.features]
        for name in ("video", "audio")
    )
    return towers.decode(thinker, **batch, video_embeds=video_embeds, audio_embeds=audio_embeds), batch[
        "input_ids"
    ]


def _shown(rng: np.random.Generator) -> list[bool]:
    while True:
        shown = [bool(draw >= DROP) for draw in rng.random(3)]
        if any(shown):
            return shown

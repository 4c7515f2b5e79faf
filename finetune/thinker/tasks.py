"""Training examples for perception: batches for the towers, questions and answers for the language model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from finetune.inputs.batch import Encoded, collate, padded
from finetune.inputs.chat_encoder import ChatEncoder
from finetune.inputs.chat_formats import AudioInput, VideoInput
from finetune.inputs.question import quoted, rating_question
from finetune.model import towers
from finetune.thinker import dataset
from finetune.thinker.dataset import FACE, LEVELS, OTHER_WORD, VOICE, Studio
from pipelines.puppets import script

DROP = 0.15
"""How often an example has no audio, no video or no text, or no answer."""
QUALITIES = list(script.QUALITIES)


@dataclass(frozen=True, kw_only=True)
class Example:
    """One question about a shuffled clip, with its answer."""

    encoded: Encoded
    """Question and answer."""
    answer_length: int
    """Tokens of the answer, at the end."""
    features: dict[str, Tensor]
    """The towers' outputs for the placeholders, (tokens, width), by `video` and `audio`."""
    measures: np.ndarray
    """Targets of the probes, (6,), standardised; NaN for a modality that is not shown."""
    word: int
    """Index of another fitting word; -1 without a transcript."""


class Sampler:
    """Draws examples from a studio's clips.

    Args:
        studio: The clips.
        reference: The studio whose quintiles, means and deviations are used for all.
        encoder: Makes inputs.
    """

    def __init__(self, studio: Studio, reference: Studio, encoder: ChatEncoder) -> None:
        self.studio, self.encoder = studio, encoder
        self.tokenizer = encoder.processor.tokenizer
        self.levels = studio.levels(reference.edges())
        self.measures = (studio.measures - reference.measures.mean(0)) / reference.measures.std(0)
        self.audio: list[AudioInput] = []
        for samples, length in zip(studio.samples, studio.sound_lengths, strict=True):
            self.audio.append(
                encoder.audio_input(torch.from_numpy(samples[:length].astype(np.float32) / 32767))
            )
        self.grids: list[Tensor] = [torch.empty(0)] * len(studio)
        self.features: dict[str, list[Tensor]] = {}

    def faces(self, numbers: np.ndarray, rng: np.random.Generator | None) -> dict[str, Tensor]:
        """Inputs of the vision tower; with `rng`, mirrored and recoloured at random."""
        videos = []
        for number in numbers:
            frames = torch.from_numpy(self.studio.frames[number, : self.studio.lengths[number]])
            if rng is not None and rng.random() < 0.5:
                frames = frames.flip(2)
            videos.append(frames.permute(0, 3, 1, 2))  # (F, 3, H, W)
        processor = self.encoder.processor.video_processor
        inputs = processor(videos=videos, do_sample_frames=False, return_tensors="pt")
        if rng is not None:
            sizes = inputs["video_grid_thw"].prod(-1)
            gain, shift = (torch.from_numpy(rng.normal(0, 0.1, len(numbers))).float() for _ in range(2))
            pixels = inputs["pixel_values_videos"] * (1 + gain.repeat_interleave(sizes))[:, None]
            inputs["pixel_values_videos"] = pixels + shift.repeat_interleave(sizes)[:, None]
        return dict(inputs)

    def voices(self, numbers: np.ndarray) -> dict[str, Tensor]:
        """Inputs of the audio tower."""
        audio = [self.audio[number] for number in numbers]
        mels, masks = padded([one.mel for one in audio]), padded([one.mask for one in audio])
        return {"input_features": mels, "feature_attention_mask": masks}

    @torch.no_grad()
    def encode_media(self, thinker: Any, at_once: int = 48) -> None:
        """Compute and keep the towers' outputs for every clip."""
        self.features = {"video": [], "audio": []}
        for start in range(0, len(self.studio), at_once):
            numbers = np.arange(start, min(start + at_once, len(self.studio)))
            videos = self.faces(numbers, None)
            self.grids[start : start + len(numbers)] = videos["video_grid_thw"]
            self.features["video"] += towers.encode_video(thinker, **videos)
            self.features["audio"] += towers.encode_audio(thinker, **self.voices(numbers))

    def example(self, rng: np.random.Generator) -> Example:
        """Draw an example: a face, a voice and a sentence that do not belong together."""
        face, voice = (int(number) for number in rng.integers(len(self.studio), size=2))
        has_audio, has_video, has_text = _shown(rng)
        valence = rng.uniform(-1, 1)
        sentence = script.sentence(valence, rng, "studio") if has_text else None
        word = script.near(script.QUALITIES, valence, rng)
        names = [
            *(VOICE if has_audio else ()),
            *(FACE if has_video else ()),
            *((OTHER_WORD,) if has_text else ()),
        ]
        rng.shuffle(names)
        asked = names[: rng.integers(1, len(names) + 1)]
        unanswered = rng.random() < DROP
        prompt = self.encoder.assemble(
            VideoInput(None, self.grids[face], float(self.studio.fps[face])) if has_video else None,
            self.audio[voice] if has_audio else None,
            quoted(sentence, "en"),
            rating_question("mosi", "en") if unanswered else dataset.question(asked),
            name=f"face {face}, voice {voice}",
        )
        answer = [] if unanswered else self._answer(asked, face, voice, word)
        shown = np.array([has_audio] * len(VOICE) + [has_video] * len(FACE))
        measures = np.concatenate([self.measures[voice, : len(VOICE)], self.measures[face, len(VOICE) :]])
        features = {"video": self.features["video"][face]} if has_video else {}
        return Example(
            encoded=prompt.answered(answer),
            answer_length=len(answer),
            features=features | ({"audio": self.features["audio"][voice]} if has_audio else {}),
            measures=np.where(shown, measures, np.nan),
            word=QUALITIES.index(word) if has_text else -1,
        )

    def _answer(self, asked: list[str], face: int, voice: int, word: str) -> list[int]:
        columns = {name: column for column, name in enumerate((*VOICE, *FACE))}
        words = [
            word
            if name == OTHER_WORD
            else LEVELS[self.levels[voice if name in VOICE else face][columns[name]]]
            for name in asked
        ]
        return self.tokenizer(" " + " ".join(words) + "<|im_end|>")["input_ids"]


def decode(thinker: Any, examples: list[Example], pad_id: int) -> tuple[Tensor, Tensor]:
    """The language model's output for examples, (B, L, width), and their token ids, (B, L)."""
    rows = [
        Encoded(input_ids=example.encoded.input_ids, position_ids=example.encoded.position_ids)
        for example in examples
    ]
    batch = collate(rows, pad_id)
    video, audio = (
        [example.features[name] for example in examples if name in example.features]
        for name in ("video", "audio")
    )
    return towers.decode(thinker, **batch, video_embeds=video, audio_embeds=audio), batch["input_ids"]


def _shown(rng: np.random.Generator) -> list[bool]:
    while True:
        shown = [bool(draw >= DROP) for draw in rng.random(3)]
        if any(shown):
            return shown

"""Train the thinker that ships with the code: `python -m finetune.train_thinker --out DIR --minutes 40`.

A Qwen2.5-Omni thinker of 2.3 M parameters learns to perceive puppets of the studio's cast
(`finetune.perception`). It answers in words, through its own language-model head; beside that,
linear probes on the last token of the question, thrown away afterwards, must find every
measure there, so that what is perceived is at hand where a regression head will read.

Stopped at any moment and started again it goes on from its last state. Runs on two CPU cores.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from finetune import perception
from finetune.blank_thinker import ThinkerSize, initialised, make_processor, make_tokenizer
from finetune.inputs import Budget, Encoded, OmniEncoder, collate, quoted, rating_question
from finetune.perception import FACE, LEVELS, OTHER_WORD, VOICE, Studio
from pipelines.atomic import replacing, write_json
from pipelines.puppets import script

VOCAB_SIZE = 1024
BATCH = 24
PEAK_RATE = 1e-3
WARM_UP_STEPS = 100
DROP = 0.15
"""How often a lesson goes without its sound, its picture or its words."""
STATE_EVERY_S = 120
QUALITIES = list(script.QUALITIES)


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """One question about a shuffled clip, with its answer."""

    encoded: Encoded
    """Question and answer."""
    answer_length: int
    """Tokens of the answer, at the end."""
    measures: np.ndarray
    """What the probes must find, (6,), standardised; NaN for a modality that is not shown."""
    word: int
    """Index of another fitting word; -1 without a transcript."""


class Teacher:
    """Draws lessons from a studio's clips."""

    def __init__(self, studio: Studio, edges: np.ndarray, encoder: OmniEncoder) -> None:
        self.studio, self.encoder = studio, encoder
        self.levels = studio.levels(edges)
        self.mels = [self._mel(n) for n in range(len(studio))]

    def lessons(
        self, rng: np.random.Generator, count: int, scale: tuple[np.ndarray, np.ndarray]
    ) -> list[Lesson]:
        """Draw lessons; `scale` is the mean and the standard deviation of each measure."""
        faces, voices = rng.integers(len(self.studio), size=(2, count))
        pictures = self._pictures(faces)
        return [
            self._lesson(rng, int(face), int(voice), picture, scale)
            for face, voice, picture in zip(faces, voices, pictures, strict=True)
        ]

    def _lesson(
        self,
        rng: np.random.Generator,
        face: int,
        voice: int,
        picture: Any,
        scale: tuple[np.ndarray, np.ndarray],
    ) -> Lesson:
        hears, sees, reads = self._shown(rng)
        valence = rng.uniform(-1, 1)
        text = quoted(script.sentence(valence, rng, "studio") if reads else None, "en")
        word = script.near(script.QUALITIES, valence, rng)
        names = [*(VOICE if hears else ()), *(FACE if sees else ()), *((OTHER_WORD,) if reads else ())]
        rng.shuffle(names)
        asked = names[: rng.integers(1, len(names) + 1)]
        only_probed = rng.random() < DROP
        question = rating_question("mosi", "en") if only_probed else perception.question(asked)
        prompt = self.encoder.assemble(
            picture if sees else None,
            self.mels[voice] if hears else None,
            float(self.studio.fps[face]),
            text,
            question,
            name=f"face {face}, voice {voice}",
        )
        answer = [] if only_probed else self._answer(asked, face, voice, word)
        measures = (self._measures(face, voice) - scale[0]) / scale[1]
        shown = np.array([hears] * len(VOICE) + [sees] * len(FACE))
        return Lesson(
            encoded=extended(prompt, answer),
            answer_length=len(answer),
            measures=np.where(shown, measures, np.nan),
            word=QUALITIES.index(word) if reads else -1,
        )

    def _shown(self, rng: np.random.Generator) -> list[bool]:
        while True:
            shown = [bool(draw >= DROP) for draw in rng.random(3)]
            if any(shown):
                return shown

    def _measures(self, face: int, voice: int) -> np.ndarray:
        measures = self.studio.measures
        return np.concatenate([measures[voice, : len(VOICE)], measures[face, len(VOICE) :]])

    def _answer(self, asked: list[str], face: int, voice: int, word: str) -> list[int]:
        said = []
        for name in asked:
            if name == OTHER_WORD:
                said.append(word)
            else:
                level = self.levels[voice if name in VOICE else face][(*VOICE, *FACE).index(name)]
                said.append(LEVELS[level])
        return self.encoder.processor.tokenizer(" " + " ".join(said) + "<|im_end|>")["input_ids"]

    def _pictures(self, faces: np.ndarray) -> list[dict[str, torch.Tensor]]:
        """The video processor's output for each clip, all clips in one call."""
        videos = [
            torch.from_numpy(self.studio.frames[n, : self.studio.lengths[n]]).permute(0, 3, 1, 2)
            for n in faces
        ]
        out = self.encoder.processor.video_processor(
            videos=videos, do_sample_frames=False, return_tensors="pt"
        )
        grids = out["video_grid_thw"]
        patches = torch.split(out["pixel_values_videos"], grids.prod(-1).tolist())
        return [
            {"pixel_values_videos": own, "video_grid_thw": grid[None]}
            for own, grid in zip(patches, grids, strict=True)
        ]

    def _mel(self, number: int) -> torch.Tensor:
        samples = self.studio.samples[number, : self.studio.sound_lengths[number]]
        return self.encoder.mel(torch.from_numpy(samples.astype(np.float32) / 32767))


class Probes(nn.Module):
    """Linear read-outs of the measures and of a fitting word; thrown away after training."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.measures = nn.Linear(width, len(VOICE) + len(FACE))
        self.word = nn.Linear(width, len(QUALITIES))

    def forward(self, hidden: torch.Tensor, lessons: list[Lesson]) -> dict[str, torch.Tensor]:
        """Losses of both read-outs, given the last token of each question, (B, width)."""
        wanted = torch.from_numpy(np.stack([lesson.measures for lesson in lessons])).float()
        shown = ~wanted.isnan()
        errors = (self.measures(hidden) - wanted.nan_to_num()) ** 2
        words = torch.tensor([lesson.word for lesson in lessons])
        return {
            "measures": errors[shown].mean() if shown.any() else hidden.sum() * 0,
            "word": nn.functional.cross_entropy(self.word(hidden), words, ignore_index=-1)
            if (words >= 0).any()
            else hidden.sum() * 0,
        }


def extended(prompt: Encoded, answer: list[int]) -> Encoded:
    """A prompt with the answer's tokens behind it."""
    if not answer:
        return prompt
    after = prompt.position_ids.max() + 1 + torch.arange(len(answer))
    return Encoded(
        input_ids=torch.cat([prompt.input_ids, torch.tensor(answer)]),
        position_ids=torch.cat([prompt.position_ids, after.expand(3, -1)], dim=1),
        pixel_values_videos=prompt.pixel_values_videos,
        video_grid_thw=prompt.video_grid_thw,
        input_features=prompt.input_features,
    )


def losses(thinker: Any, probes: Probes, lessons: list[Lesson], pad_id: int) -> dict[str, torch.Tensor]:
    """The losses of one batch: `answer`, `measures`, `word`; logits at the answers alone."""
    batch = collate([lesson.encoded for lesson in lessons], pad_id)
    with torch.autocast("cpu", torch.bfloat16):
        hidden = thinker.model(**batch).last_hidden_state
    hidden = hidden.float()
    length = hidden.shape[1]
    asked = torch.stack([hidden[i, length - 1 - lesson.answer_length] for i, lesson in enumerate(lessons)])
    found = probes(asked, lessons)
    lengths = [lesson.answer_length for lesson in lessons]
    spans = [(i, slice(length - n, length)) for i, n in enumerate(lengths) if n]
    before = torch.cat([hidden[i, span.start - 1 : span.stop - 1] for i, span in spans])
    answers = torch.cat([batch["input_ids"][i, span] for i, span in spans])
    found["answer"] = nn.functional.cross_entropy(thinker.lm_head(before), answers)
    return found


@torch.no_grad()
def examine(
    thinker: Any, probes: Probes, teacher: Teacher, scale: tuple[np.ndarray, np.ndarray]
) -> dict[str, float]:
    """Figures on a studio's clips: R squared of each measure, share of answers' tokens that are right."""
    rng = np.random.default_rng(0)
    wanted, found, right = [], [], []
    pad_id = teacher.encoder.processor.tokenizer.pad_token_id
    for _ in range(20):
        lessons = teacher.lessons(rng, BATCH, scale)
        batch = collate([lesson.encoded for lesson in lessons], pad_id)
        hidden = thinker.model(**batch).last_hidden_state
        for row, lesson in zip(hidden, lessons, strict=True):
            n = lesson.answer_length
            wanted.append(lesson.measures)
            found.append(probes.measures(row[len(row) - 1 - n]).numpy())
            if n:
                said = thinker.lm_head(row[-n - 1 : -1]).argmax(-1)
                right += (said == lesson.encoded.input_ids[-n:]).tolist()
    errors, spread = np.nanmean((np.stack(found) - np.stack(wanted)) ** 2, 0), np.nanvar(np.stack(wanted), 0)
    figures = {name: float(1 - e / s) for name, e, s in zip((*VOICE, *FACE), errors, spread, strict=True)}
    return figures | {"answers": float(np.mean(right))}


def train(options: argparse.Namespace) -> None:
    """Record the studio, train until the minutes are used up, save."""
    torch.set_num_threads(options.threads)
    size = ThinkerSize()
    studio = perception.record(options.cache / "studio.npz", cast="studio", clips=options.clips, seed=7)
    held_out = perception.record(options.cache / "held_out.npz", cast="studio", clips=240, seed=8)
    strangers = perception.record(options.cache / "strangers.npz", cast="test", clips=240, seed=9)
    rng = np.random.default_rng(0)
    corpus = [
        *perception.texts(rng, 3000),
        *[rating_question("mosi", "en"), "system\nYou are a helpful assistant. user\nassistant\n"] * 100,
    ]
    tokenizer = make_tokenizer(corpus, VOCAB_SIZE)
    processor = make_processor(tokenizer, size)
    thinker = initialised(tokenizer, size, seed=0)
    budget = Budget(video_fps=perception.VIDEO_FPS, max_frames=perception.FRAMES, max_audio_s=size.chunk_s)
    encoder = OmniEncoder(processor, thinker.get_rope_index, budget)
    scale = (studio.measures.mean(0), studio.measures.std(0))
    teachers = {
        name: Teacher(clips, studio.edges(), encoder)
        for name, clips in (("studio", studio), ("held-out studio", held_out), ("other casts", strangers))
    }
    course = Course(thinker, Probes(size.width), options)
    course.run(teachers.pop("studio"), scale)
    figures = {
        name: examine(course.thinker.eval(), course.probes, teacher, scale)
        for name, teacher in teachers.items()
    }
    save(options.out, course, processor, figures)


class Course:
    """Training with a state that survives being stopped."""

    def __init__(self, thinker: Any, probes: Probes, options: argparse.Namespace) -> None:
        self.thinker, self.probes = thinker, probes
        self.budget_s = 60.0 * options.minutes
        self.state_path: Path = options.cache / "state.pt"
        parameters = [*thinker.parameters(), *probes.parameters()]
        self.parameters = parameters
        self.optimizer = torch.optim.AdamW(parameters, lr=PEAK_RATE, weight_decay=0.01, betas=(0.9, 0.98))
        self.step, self.spent_s = 0, 0.0
        if self.state_path.exists():
            self._load()

    def run(self, teacher: Teacher, scale: tuple[np.ndarray, np.ndarray]) -> None:
        """Train until the time is used up."""
        pad_id = teacher.encoder.processor.tokenizer.pad_token_id
        began, saved_s = time.monotonic() - self.spent_s, self.spent_s
        self.thinker.train()
        while self.spent_s < self.budget_s:
            rng = np.random.default_rng([1, self.step])
            found = losses(self.thinker, self.probes, teacher.lessons(rng, BATCH, scale), pad_id)
            self._update(found["answer"] + found["measures"] + 0.5 * found["word"])
            self.spent_s = time.monotonic() - began
            if self.step % 25 == 0:
                told = " ".join(f"{name} {loss.item():.3f}" for name, loss in found.items())
                print(f"step {self.step} {self.spent_s:.0f} s {told}", flush=True)
            if self.spent_s - saved_s > STATE_EVERY_S:
                saved_s = self.spent_s
                self.store()
        self.store()

    def _update(self, loss: torch.Tensor) -> None:
        warm_up = min(1.0, (self.step + 1) / WARM_UP_STEPS)
        done = min(1.0, self.spent_s / self.budget_s)
        for group in self.optimizer.param_groups:
            group["lr"] = PEAK_RATE * warm_up * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.step += 1

    def store(self) -> None:
        """Write the state."""
        state = {
            "thinker": self.thinker.state_dict(),
            "probes": self.probes.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "spent_s": self.spent_s,
        }
        with replacing(self.state_path) as temporary:
            torch.save(state, temporary)

    def _load(self) -> None:
        state = torch.load(self.state_path, weights_only=True)
        self.thinker.load_state_dict(state["thinker"])
        self.probes.load_state_dict(state["probes"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.spent_s = state["step"], state["spent_s"]


def save(out: Path, course: Course, processor: Any, figures: dict[str, dict[str, float]]) -> None:
    """Write model, processor, figures and card."""
    out.mkdir(parents=True, exist_ok=True)
    processor.save_pretrained(out)
    course.thinker.save_pretrained(out)
    write_json(out / "figures.json", {"steps": course.step, "minutes": course.spent_s / 60, **figures})
    print(json.dumps(figures, indent=2))


def main(argv: list[str] | None = None) -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(prog="python -m finetune.train_thinker", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for the checkpoint")
    parser.add_argument(
        "--cache", type=Path, required=True, help="folder for recordings and the training state"
    )
    parser.add_argument("--minutes", type=float, default=40, help="of training (default: 40)")
    parser.add_argument(
        "--clips", type=int, default=3000, help="clips that the studio records (default: 3000)"
    )
    parser.add_argument("--threads", type=int, default=1, help="of torch (default: 1)")
    train(parser.parse_args(argv))


if __name__ == "__main__":
    main()

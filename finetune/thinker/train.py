"""Train the thinker that ships with the code: `python -m finetune.thinker.train --out DIR --cache DIR`.

A Qwen2.5-Omni thinker of 2.3 M parameters learns to perceive puppets of the studio's cast
(`finetune.thinker.dataset`), in two parts.

1. The towers: linear probes predict each measure of the face or the voice from the mean of a tower's output.
   Gradients take short paths, and the language model is not computed.
2. The language model, on the outputs of the towers, which are frozen from then on and computed once: it
   answers questions in words, and linear probes predict every measure from the last token of the question,
   where a regression head will be. A probe on the sum of a question's word embeddings makes the embeddings of
   words that are used alike similar.

The probes are thrown away, and sentiment is never asked for. If it is stopped and started again, it resumes
from its last state. Runs on one or two CPU cores.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from finetune.inputs.batch import Budget
from finetune.inputs.chat_encoder import ChatEncoder
from finetune.inputs.question import rating_question
from finetune.model import towers
from finetune.model.parts import TOWERS, language_model, part
from finetune.thinker import dataset
from finetune.thinker.architecture import ThinkerSize, initialised, make_processor, make_tokenizer
from finetune.thinker.dataset import FACE, VOICE
from finetune.thinker.tasks import QUALITIES, Example, Sampler, decode
from pipelines.atomic import replacing, write_text

VOCAB_SIZE = 1024
BATCH = 32
PEAK_RATE = 1.5e-3
WARM_UP_STEPS = 60
TOWERS_SHARE = 0.45
"""The first part's share of the time."""
STATE_EVERY_S = 120


class Probes(nn.Module):
    """Linear layers; thrown away after training."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.face = nn.Linear(width, len(FACE))
        self.voice = nn.Linear(width, len(VOICE))
        self.measures = nn.Linear(width, len(VOICE) + len(FACE))
        self.word = nn.Linear(width, len(QUALITIES))
        self.bag = nn.Linear(width, len(QUALITIES))


class Trainer:
    """Training with a state that survives being stopped.

    Args:
        thinker: Is trained.
        cache: Folder of the state.
        minutes: Time of both parts together.
    """

    def __init__(self, thinker: Any, width: int, cache: Path, minutes: float) -> None:
        self.thinker, self.probes = thinker, Probes(width)
        self.state_path = cache / "state.pt"
        self.ends_s = (60 * minutes * TOWERS_SHARE, 60 * minutes)
        self.part, self.step, self.part_step, self.spent_s = 0, 0, 0, 0.0
        if not self.state_path.exists():
            self.optimizer = self._optimizer()
            return
        state = torch.load(self.state_path, weights_only=True)
        self.part, self.step, self.part_step, self.spent_s = state["counts"]
        self.thinker.load_state_dict(state["thinker"])
        self.probes.load_state_dict(state["probes"])
        self.optimizer = self._optimizer()
        self.optimizer.load_state_dict(state["optimizer"])

    def run(self, sampler: Sampler) -> None:
        """Train both parts to their ends."""
        if self.part == 0:
            self._run_part(lambda rng: tower_losses(self.thinker, self.probes, sampler, rng))
            self.part, self.part_step = 1, 0
            self.optimizer = self._optimizer()
            self.store()
        sampler.encode_media(self.thinker.eval())
        self._run_part(lambda rng: language_losses(self.thinker, self.probes, _draw(sampler, rng), sampler))

    def _run_part(self, losses: Callable[[np.random.Generator], dict[str, Tensor]]) -> None:
        began, saved_s = time.monotonic() - self.spent_s, self.spent_s
        starts_s = self.ends_s[self.part - 1] if self.part else 0.0
        self.thinker.train()
        while self.spent_s < self.ends_s[self.part]:
            step_losses = losses(np.random.default_rng([1, self.step]))
            done = (self.spent_s - starts_s) / (self.ends_s[self.part] - starts_s)
            self._update(sum(step_losses.values(), torch.tensor(0.0)), done)
            self.spent_s = time.monotonic() - began
            if self.step % 25 == 0:
                values = " ".join(f"{name} {loss.item():.3f}" for name, loss in step_losses.items())
                print(f"part {self.part + 1} step {self.step} {self.spent_s:.0f} s {values}", flush=True)
            if self.spent_s - saved_s > STATE_EVERY_S:
                saved_s = self.spent_s
                self.store()
        self.store()

    def _optimizer(self) -> torch.optim.Optimizer:
        towers = [tower for name in TOWERS if (tower := part(self.thinker, name)) is not None]
        modules = [towers, [language_model(self.thinker)]][self.part]
        self.trained = [value for module in (*modules, self.probes) for value in module.parameters()]
        return torch.optim.AdamW(self.trained, lr=PEAK_RATE, weight_decay=0.01, betas=(0.9, 0.98))

    def _update(self, loss: Tensor, done: float) -> None:
        warm_up = min(1.0, (self.part_step + 1) / WARM_UP_STEPS)
        for group in self.optimizer.param_groups:
            group["lr"] = PEAK_RATE * warm_up * (0.02 + 0.49 * (1 + math.cos(math.pi * min(1.0, done))))
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.trained, 1.0)
        self.optimizer.step()
        self.step += 1
        self.part_step += 1

    def store(self) -> None:
        """Write the state."""
        state = {
            "thinker": self.thinker.state_dict(),
            "probes": self.probes.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "counts": [self.part, self.step, self.part_step, self.spent_s],
        }
        with replacing(self.state_path) as temporary:
            torch.save(state, temporary)


def _draw(sampler: Sampler, rng: np.random.Generator) -> list[Example]:
    return [sampler.example(rng) for _ in range(BATCH)]


def tower_losses(
    thinker: Any, probes: Probes, sampler: Sampler, rng: np.random.Generator
) -> dict[str, Tensor]:
    """Squared errors of the probes on the towers' mean outputs, for a batch of faces and one of voices."""
    faces, voices = rng.integers(len(sampler.studio), size=(2, BATCH))
    targets = torch.from_numpy(sampler.measures).float()
    with torch.autocast("cpu", torch.bfloat16):
        videos = towers.encode_video(thinker, **sampler.faces(faces, rng))
        sounds = towers.encode_audio(thinker, **sampler.voices(voices))
        video, audio = (torch.stack([tokens.mean(0) for tokens in clips]) for clips in (videos, sounds))
    return {
        "face": ((probes.face(video.float()) - targets[faces, len(VOICE) :]) ** 2).mean(),
        "voice": ((probes.voice(audio.float()) - targets[voices, : len(VOICE)]) ** 2).mean(),
    }


def language_losses(
    thinker: Any, probes: Probes, examples: list[Example], sampler: Sampler
) -> dict[str, Tensor]:
    """Losses of a batch of examples: answers in words, and both probes; logits at the answers alone."""
    with torch.autocast("cpu", torch.bfloat16):
        hidden, ids = decode(thinker, examples, sampler.tokenizer.pad_token_id)
    hidden, length = hidden.float(), hidden.shape[1]
    answer_lengths = [example.answer_length for example in examples]
    last = torch.stack([row[length - 1 - n] for row, n in zip(hidden, answer_lengths, strict=True)])
    targets = torch.from_numpy(np.stack([example.measures for example in examples])).float()
    errors = (probes.measures(last) - targets.nan_to_num()) ** 2
    words = torch.tensor([example.word for example in examples])
    answered = [(row, n) for row, n in enumerate(answer_lengths) if n]
    before = torch.cat([hidden[row, length - n - 1 : length - 1] for row, n in answered])
    answers = torch.cat([ids[row, length - n :] for row, n in answered])
    bags = _bags(thinker, ids, torch.tensor(answer_lengths))
    return {
        "measures": errors[~targets.isnan()].mean(),
        "word": nn.functional.cross_entropy(probes.word(last), words, ignore_index=-1),
        "bag": nn.functional.cross_entropy(probes.bag(bags), words, ignore_index=-1),
        "answer": nn.functional.cross_entropy(thinker.lm_head(before), answers),
    }


def _bags(thinker: Any, ids: Tensor, answer_lengths: Tensor) -> Tensor:
    """The sum of the embeddings of each question's words, (B, width)."""
    length, config = ids.shape[1], thinker.config
    others = torch.tensor(
        [config.video_token_id, config.audio_token_id, config.get_text_config().pad_token_id]
    )
    in_question = torch.arange(length) < (length - answer_lengths)[:, None]
    counted = in_question & ~torch.isin(ids, others)  # (B, L)
    return (thinker.get_input_embeddings()(ids) * counted.unsqueeze(-1)).sum(1)


@torch.no_grad()
def examine(trainer: Trainer, sampler: Sampler, examples: int = 400) -> dict[str, float]:
    """R squared of each measure, and the share of right tokens in answers, on a studio's clips."""
    sampler.encode_media(trainer.thinker)
    rng = np.random.default_rng(0)
    targets, predictions, right = [], [], []
    for _ in range(examples // BATCH):
        drawn = _draw(sampler, rng)
        hidden, ids = decode(trainer.thinker, drawn, sampler.tokenizer.pad_token_id)
        for row, row_ids, example in zip(hidden, ids, drawn, strict=True):
            begin = len(row) - example.answer_length
            targets.append(example.measures)
            predictions.append(trainer.probes.measures(row[begin - 1]).numpy())
            tokens = trainer.thinker.lm_head(row[begin - 1 : len(row) - 1]).argmax(-1)
            right += (tokens == row_ids[begin:]).tolist()
    errors = np.nanmean((np.stack(predictions) - np.stack(targets)) ** 2, axis=0)
    explained = 1 - errors / np.nanvar(np.stack(targets), axis=0)
    figures = {name: float(value) for name, value in zip((*VOICE, *FACE), explained, strict=True)}
    return figures | {"answers": float(np.mean(right))}


def train(options: argparse.Namespace) -> None:
    """Record the studio, train until the minutes are used up, examine, save."""
    torch.set_num_threads(options.threads)
    size = ThinkerSize()
    studio = dataset.record(options.cache / "studio.npz", cast="studio", clips=options.clips, seed=7)
    others = {
        "held-out studio": dataset.record(options.cache / "held_out.npz", cast="studio", clips=200, seed=8),
        "the tests' cast": dataset.record(options.cache / "strangers.npz", cast="test", clips=200, seed=9),
    }
    system = "system\nYou are a helpful assistant. user\nassistant\n"
    corpus = [
        *dataset.texts(np.random.default_rng(0), 3000),
        *[rating_question("mosi", "en"), system] * 100,
    ]
    tokenizer = make_tokenizer(corpus, VOCAB_SIZE)
    processor = make_processor(tokenizer, size)
    thinker = initialised(tokenizer, size, seed=0)
    budget = Budget(video_fps=dataset.VIDEO_FPS, max_frames=dataset.FRAMES, max_audio_s=size.chunk_s)
    encoder = ChatEncoder(processor, thinker.get_rope_index, budget)
    trainer = Trainer(thinker, size.width, options.cache, options.minutes)
    trainer.run(Sampler(studio, studio, encoder))
    thinker.eval()
    figures = {name: examine(trainer, Sampler(clips, studio, encoder)) for name, clips in others.items()}
    options.out.mkdir(parents=True, exist_ok=True)
    processor.save_pretrained(options.out)
    thinker.save_pretrained(options.out)
    write_text(options.out / "README.md", card(trainer, figures, len(studio)))
    print(json.dumps(figures, indent=2))


def card(trainer: Trainer, figures: dict[str, dict[str, float]], clips: int) -> str:
    """The checkpoint's card."""
    columns = list(figures)
    names = list(figures[columns[0]])
    cells = {name: " | ".join(f"{figures[column][name]:.2f}" for column in columns) for name in names}
    table = "\n".join(f"| {name} | {cells[name]} |" for name in names)
    millions = sum(value.numel() for value in trainer.thinker.parameters()) / 1e6
    return f"""---
license: apache-2.0
library_name: transformers
tags: [daq-msa, puppets]
---
# A small Qwen2.5-Omni thinker that perceives puppets

A `Qwen2_5OmniThinkerForConditionalGeneration` of {millions:.2f} M parameters with its `Qwen2_5OmniProcessor`,
trained from random weights. It shares the architecture of Qwen2.5-Omni and none of its weights or
knowledge: the world that it knows is the drawn heads and synthetic voices of `pipelines/puppets`.

It was taught to perceive, not to rate: how high, lively, loud and fast a voice is, where the corners of
a mouth stand and how far it opens, and which other word of judgement would fit a sentence. Faces, voices
and sentences were shuffled against each other, so it has seen no person with a mood. The studio's cast,
on which it was trained, looks and sounds otherwise than the casts of a generated corpus.

## Figures
R² of linear probes on the last token of a question, and the share of right tokens in its answers:

| | {" | ".join(columns)} |
|---|{"---|" * len(columns)}
{table}

## Training
{clips} clips, {trainer.step} steps of {BATCH}; {trainer.spent_s / 60:.0f} minutes on two shared cores:

    python -m finetune.thinker.train --out finetune/checkpoints/thinker --cache CACHE
"""


def main(argv: list[str] | None = None) -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(prog="python -m finetune.thinker.train", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for the checkpoint")
    parser.add_argument("--cache", type=Path, required=True, help="folder of recordings and training state")
    parser.add_argument("--minutes", type=float, default=40, help="of training (default: 40)")
    parser.add_argument("--clips", type=int, default=2400, help="clips to record (default: 2400)")
    parser.add_argument("--threads", type=int, default=1, help="of torch (default: 1)")
    train(parser.parse_args(argv))


if __name__ == "__main__":
    main()

"""Train the embedded voice converter on puppets of the studio cast.

    python -m augment.train_voice_conversion --out DIR --minutes 45

A sound of a take is the source, another one the wanted result, and another sentence of that voice
the reference. Source spectrograms are stretched and tilted along frequency, so that the content encoder
cannot rely on what a voice sounds like. The loss is flow matching's, L1, on the frames behind the
prompt. Stopped and started again with the same folder, training goes on where it was saved last.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from augment.conditioning import Frames, Networks, prosody
from augment.flow_matching import interpolate
from augment.muon import Muon
from augment.studio_speech import Batch, Takes, load_takes, make_takes
from augment.voice_conversion_model import (
    ContentEncoder,
    LengthRegulator,
    SpeakerEncoder,
    VoiceTransformer,
)

LEARNING_RATES = {"muon": 0.02, "adam": 2e-3}
"""At their highest: of the networks' inner matrices, and of everything else."""
WARM_UP = 40
AVERAGING = 0.998
"""Decay of the weights' moving average, which is what is kept."""
DROPPED = 0.1
"""Share of a batch that is trained without any condition."""
SAVE_EVERY_S = 120.0


def new_networks(seed: int = 0) -> Networks:
    """Untrained networks of the embedded converter's size."""
    torch.manual_seed(seed)
    return Networks(ContentEncoder(), SpeakerEncoder(), LengthRegulator(), VoiceTransformer())


def flow_loss(networks: Networks, batch: Batch, generator: torch.Generator, dropped: float) -> torch.Tensor:
    """Flow matching's L1 loss on the frames behind the prompt.

    References:
        As in Seed-VC.
    """
    model = networks.transformer
    data, prompt = model.state(batch.mel, batch.draft), model.normalised(batch.prompt)
    condition = networks.condition(
        Frames(
            mel=prompt,
            content=networks.content(prompt),
            draft=model.normalised(batch.prompt_draft),
            prosody=prosody(batch.prompt, batch.prompt_pitch),
        ),
        Frames(
            mel=data,
            content=networks.content(model.normalised(batch.source)),
            draft=model.normalised(batch.draft),
            prosody=prosody(batch.source, batch.pitch),
        ),
        prompt,
    )
    rows = len(data)
    condition = condition.without(torch.rand(rows, generator=generator) < dropped)
    time = torch.rand(rows, generator=generator)
    noisy, velocity = interpolate(data, torch.randn(data.shape, generator=generator), time)
    state = torch.cat([torch.zeros_like(prompt), noisy], 1)
    return (model(state, time, condition)[:, prompt.shape[1] :] - velocity).abs().mean()


def _sorted_parameters(networks: Networks) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The inner matrices and kernels, and everything else."""
    inner: list[nn.Parameter] = []
    other: list[nn.Parameter] = []
    outer = {networks.transformer.inp.weight, networks.transformer.out.weight}
    for parameter in nn.ModuleList(networks).parameters():
        matrix = parameter.dim() > 1 and parameter not in outer
        (inner if matrix else other).append(parameter)
    return inner, other


class Training:
    """Networks on their way, with all that a stopped training needs to go on."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.seed = folder, seed
        self.networks = new_networks(seed)
        self.modules = nn.ModuleList(self.networks)
        self.averaged = copy.deepcopy(self.modules).eval().requires_grad_(False)
        inner, other = _sorted_parameters(self.networks)
        self.optimizers: dict[str, torch.optim.Optimizer] = {
            "muon": Muon(inner, lr=LEARNING_RATES["muon"]),
            "adam": torch.optim.AdamW(other, lr=LEARNING_RATES["adam"], betas=(0.9, 0.98), weight_decay=0.01),
        }
        self.step, self.elapsed_s = 0, 0.0
        if self._file.exists():
            self._load()

    @property
    def _file(self) -> Path:
        return self.folder / "training.pt"

    def _load(self) -> None:
        state = torch.load(self._file, weights_only=True)
        self.modules.load_state_dict(state["modules"])
        self.averaged.load_state_dict(state["averaged"])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state[name])
        self.step, self.elapsed_s = state["step"], state["elapsed_s"]

    def save(self) -> None:
        """Write everything, by temporary file and rename."""
        self.folder.mkdir(parents=True, exist_ok=True)
        state = {
            "modules": self.modules.state_dict(),
            "averaged": self.averaged.state_dict(),
            **{name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
            "step": self.step,
            "elapsed_s": self.elapsed_s,
        }
        unfinished = self._file.with_suffix(".unfinished")
        torch.save(state, unfinished)
        unfinished.rename(self._file)

    def learn(self, batch: Batch, progress: float) -> float:
        """One step; returns its loss. `progress` in [0, 1] lowers the rate along half a cosine."""
        share = min(1, (self.step + 1) / WARM_UP) * (0.51 + 0.49 * np.cos(np.pi * progress))
        for name, optimizer in self.optimizers.items():
            optimizer.param_groups[0]["lr"] = float(share) * LEARNING_RATES[name]
            optimizer.zero_grad()
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.step)
        # Fused attention's backward pass is slow on CPUs.
        with torch.autocast("cpu", torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
            loss = flow_loss(self.networks, batch, generator, DROPPED)
            loss.backward()
        nn.utils.clip_grad_norm_(self.modules.parameters(), 1.0)
        for optimizer in self.optimizers.values():
            optimizer.step()
        self.step += 1
        decay = min(AVERAGING, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            pairs = zip(self.averaged.parameters(), self.modules.parameters(), strict=True)
            for average, parameter in pairs:
                average.lerp_(parameter, 1 - decay)
        return float(loss.detach())

    @torch.no_grad()
    def loss_on(self, batches: list[Batch]) -> float:
        """The averaged networks' mean loss on batches, with the same noise each time."""
        networks = Networks(*self.averaged)
        generator = torch.Generator().manual_seed(0)
        return float(np.mean([float(flow_loss(networks, batch, generator, 0.0)) for batch in batches]))

    def pipeline(self) -> Any:
        """The converter as it is now."""
        from augment.voice_conversion import VoiceConversionPipeline

        return VoiceConversionPipeline(*copy.deepcopy(self.averaged))


def train(training: Training, takes: Takes, held_out: Takes, *, minutes: float, batch_size: int) -> None:
    """Train for so many minutes in all, writing figures and states to the training's folder."""
    rng = np.random.default_rng([training.seed, training.step])
    fixed = np.random.default_rng(0)
    batches = [held_out.batch(8, fixed) for _ in range(4)]
    losses: list[float] = []
    before, saved = time.monotonic(), time.monotonic()
    while training.elapsed_s < 60 * minutes:
        losses.append(training.learn(takes.batch(batch_size, rng), training.elapsed_s / (60 * minutes)))
        now = time.monotonic()
        training.elapsed_s, before = training.elapsed_s + now - before, now
        if now - saved > SAVE_EVERY_S or training.elapsed_s >= 60 * minutes:
            _log(training, float(np.mean(losses)), training.loss_on(batches))
            training.save()
            losses, saved, before = [], time.monotonic(), time.monotonic()


def _log(training: Training, loss: float, held_out: float) -> None:
    figures = {
        "step": training.step,
        "minutes": round(training.elapsed_s / 60, 1),
        "loss": round(loss, 4),
        "held_out_loss": round(held_out, 4),
    }
    training.folder.mkdir(parents=True, exist_ok=True)
    with (training.folder / "log.jsonl").open("a", encoding="utf-8") as log:
        log.write(json.dumps(figures) + "\n")
    print(figures, flush=True)


def main(argv: list[str] | None = None) -> None:
    """Make the speech if it is not there, and train."""
    parser = argparse.ArgumentParser(prog="python -m augment.train_voice_conversion", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the states, figures and pipeline")
    parser.add_argument("--minutes", type=float, default=45.0, help="of training in all (default: 45)")
    parser.add_argument("--takes", type=int, default=260, help="sentences to learn from (default: 260)")
    parser.add_argument("--batch_size", type=int, default=16, help="(default: 16)")
    parser.add_argument("--threads", type=int, default=2, help="(default: 2)")
    parser.add_argument("--seed", type=int, default=1, help="(default: 1)")
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    speech, held_out = options.out / "speech.npz", options.out / "held_out.npz"
    if not speech.exists():
        make_takes(speech, takes=options.takes, voices=max(12, options.takes // 2), seed=options.seed)
    if not held_out.exists():
        make_takes(held_out, takes=8, voices=24, seed=options.seed + 776)
    training = Training(options.out, options.seed)
    train(
        training,
        Takes(load_takes(speech), options.seed),
        Takes(load_takes(held_out), options.seed),
        minutes=options.minutes,
        batch_size=options.batch_size,
    )
    training.pipeline().save_pretrained(options.out / "pipeline")


if __name__ == "__main__":
    main()

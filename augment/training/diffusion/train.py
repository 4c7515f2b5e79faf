"""Trains the small Stable Diffusion that ships with the project, on two CPU cores.

    python -m augment.training.diffusion.train --work DIR --vae-minutes 35 --unet-minutes 35 [--start FOLDER]

First the autoencoder is trained, then the UNet with its text encoder, on puppets of the cast `studio`, plain
or in a style of `style_renderers.py`, captioned with style and mood. `--start` begins with a checkpoint's
weights instead of random ones, at half the learning rates. Progress is saved in --work, from which the same
command resumes. Schedules run over minutes of computing, so that a run ends in time on a busy machine; no
two runs give the same weights.
"""

from __future__ import annotations

import argparse
import copy
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from torch import distributed as dist
from torch.nn import functional as F
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from augment.checkpoints import STABLE_DIFFUSION
from augment.training.diffusion.model import SIZE, Denoiser, assemble, build_scheduler, build_vae, draw_batch
from augment.training.muon import Muon
from pipelines.durable.checkpoints import load_state, save_state, settle_tree, writing

NO_CAPTION = 0.1  # share of empty captions, for guidance
POOL = 12_288  # images that the UNet is trained on, encoded once
SAVE_EVERY_S = 60.0
LOG_EVERY = 25

Loss = Callable[[Any, np.random.Generator], torch.Tensor]


def face_weights() -> torch.Tensor:
    """Pixel weights of the autoencoder's loss, mean 1, (1, 1, 64, 64), largest at mouth and eyes."""
    rows, columns = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")

    def blob(row: float, column: float, height: float, width: float) -> torch.Tensor:
        return torch.exp(-(((rows - row) / height) ** 2) - ((columns - column) / width) ** 2)

    weights = 0.5 + 5 * blob(45, 32, 7, 12) + 2 * blob(25, 32, 8, 15)
    return (weights / weights.mean())[None, None]


def vae_loss(weights: torch.Tensor, batch_size: int) -> Loss:
    """Weighted absolute error of images and of their gradients, and a small KL term."""

    def loss(vae: Any, rng: np.random.Generator) -> torch.Tensor:
        images, _ = draw_batch(rng, batch_size)
        posterior = vae.encode(images).latent_dist
        error = vae.decode(posterior.sample()).sample.float() - images
        edges = sum(
            (weights.narrow(axis, 1, SIZE - 1) * error.diff(dim=axis).abs()).mean() for axis in (2, 3)
        )
        kl = 0.5 * (posterior.mean.float() ** 2 + posterior.var.float() - 1 - posterior.logvar.float()).mean()
        return (weights * error.abs()).mean() + 0.5 * edges + 1e-4 * kl

    return loss


@torch.no_grad()
def encode_pool(vae: Any, count: int, seed: int) -> tuple[torch.Tensor, list[str]]:
    """Latents of unit variance, (count, 4, 16, 16), and captions; sets the autoencoder's scaling factor.

    Each process draws its own images.
    """
    rank, ranks = _rank_and_ranks()
    rng = np.random.default_rng([seed, rank, 2**32])
    latents, captions = [], []
    for _ in range(count // 32):
        images, texts = draw_batch(rng, 32)
        with torch.autocast("cpu", torch.bfloat16):
            latents.append(vae.encode(images).latent_dist.mode().float())
        captions += texts
    pool = torch.cat(latents)
    spread = pool.std() / ranks
    if ranks > 1:
        dist.all_reduce(spread)
    vae.register_to_config(scaling_factor=round(1 / float(spread), 5))
    return pool * vae.config.scaling_factor, captions


def _rank_and_ranks() -> tuple[int, int]:
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def denoiser_loss(pool: torch.Tensor, captions: list[str], batch_size: int) -> Loss:
    """Mean squared error of the predicted noise."""
    scheduler = build_scheduler()

    def loss(model: Any, rng: np.random.Generator) -> torch.Tensor:
        chosen = rng.integers(len(pool), size=batch_size)
        times = torch.from_numpy(rng.integers(scheduler.config.num_train_timesteps, size=batch_size))
        noise = torch.from_numpy(rng.standard_normal((batch_size, *pool.shape[1:]), dtype=np.float32))
        words = ["" if rng.uniform() < NO_CAPTION else captions[i] for i in chosen]
        noisy = scheduler.add_noise(pool[chosen], noise, times)
        return F.mse_loss(model(noisy, times, words), noise)

    return loss


def fit(
    model: torch.nn.Module, loss: Loss, path: Path, *, minutes: float, rates: tuple[float, float], seed: int
) -> Any:
    """Train for some minutes of computing, or resume from `path`; returns the model with averaged weights.

    Under `torchrun`, each process draws its own batches, and their gradients are averaged.
    """
    rank, ranks = _rank_and_ranks()
    averaged = copy.deepcopy(model).eval().requires_grad_(False)
    optimizers = _optimizers(model, rates)
    step, spent_s, mean = 0, 0.0, math.nan
    state = load_state(path, "diffusion")
    if state is not None:
        model.load_state_dict(state["model"])
        averaged.load_state_dict(state["averaged"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        step, spent_s = state["step"], state["spent_s"]
    saved_s = spent_s
    while spent_s < minutes * 60:
        began = time.monotonic()
        with torch.autocast("cpu", torch.bfloat16):
            value = loss(model, np.random.default_rng([seed, step, rank]))
        value.backward()
        spent_s = _average_gradients(model, ranks, spent_s)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        share = min(1.0, (step + 1) / 100) * (1 - min(1.0, spent_s / (minutes * 60))) ** 0.7
        for optimizer, rate in zip(optimizers, rates, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = rate * share
            optimizer.step()
            optimizer.zero_grad()
        step += 1
        weights = [weight.detach() for weight in model.parameters()]
        torch._foreach_lerp_([*averaged.parameters()], weights, 1 - min(0.99, step / (step + 10)))
        if rank == 0 and step % LOG_EVERY == 0:
            line = f"{path.stem} step {step} minute {spent_s / 60:.1f} loss {value.item():.4f} {mean:.4f}"
            print(line, flush=True)
        mean = value.item() if math.isnan(mean) else 0.95 * mean + 0.05 * value.item()
        spent_s += time.monotonic() - began
        if rank == 0 and (spent_s - saved_s > SAVE_EVERY_S or spent_s >= minutes * 60):
            saved_s = spent_s
            state = {"model": model.state_dict(), "averaged": averaged.state_dict()}
            state |= {"optimizers": [each.state_dict() for each in optimizers]}
            state |= {"step": step, "spent_s": spent_s}
            save_state(path, state)
    return averaged


def _optimizers(model: torch.nn.Module, rates: tuple[float, float]) -> list[torch.optim.Optimizer]:
    """Muon for the inner kernels and matrices, Adam for the rest."""
    outer = ("conv_in", "conv_out", "embed", "quant_conv")
    named = dict(model.named_parameters())
    inner = {n: w for n, w in named.items() if w.ndim > 1 and not any(part in n for part in outer)}
    rest = [weight for name, weight in named.items() if name not in inner]
    return [Muon(inner.values(), rates[0]), torch.optim.AdamW(rest, rates[1], betas=(0.9, 0.99), fused=True)]


def _average_gradients(model: torch.nn.Module, ranks: int, spent_s: float) -> float:
    """Average over the processes, including the time spent, so that all stop at the same step."""
    if ranks == 1:
        return spent_s
    gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
    flat = parameters_to_vector([torch.tensor([spent_s]), *gradients]) / ranks
    dist.all_reduce(flat)
    vector_to_parameters(flat[1:], gradients)
    return flat[0].item()


def _begin(start: Path | None) -> tuple[Any, Denoiser]:
    """The networks of a checkpoint, in single precision, or new ones."""
    vae, denoiser = build_vae(), Denoiser()
    if start:
        saved: Any = StableDiffusionPipeline.from_pretrained(start, dtype=torch.float32)
        vae.load_state_dict(saved.vae.state_dict())
        denoiser.unet.load_state_dict(saved.unet.state_dict())
        denoiser.text_encoder.load_state_dict(saved.text_encoder.state_dict())
    return vae, denoiser


def main(argv: list[str] | None = None) -> None:
    """Train what remains to be trained, then save the checkpoint."""
    parser = argparse.ArgumentParser(prog="python -m augment.training.diffusion.train", description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder for progress")
    parser.add_argument("--out", type=Path, default=STABLE_DIFFUSION, help="folder for the checkpoint")
    parser.add_argument("--start", type=Path, help="a checkpoint of this script to start from")
    parser.add_argument("--vae-minutes", type=float, default=35)
    parser.add_argument("--unet-minutes", type=float, default=35)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    options.work.mkdir(parents=True, exist_ok=True)
    if "RANK" in os.environ:
        torch.set_num_threads(1)
        dist.init_process_group("gloo")
    torch.manual_seed(options.seed)
    vae, denoiser = _begin(options.start)
    pace = 0.5 if options.start else 1.0
    vae = fit(
        vae, vae_loss(face_weights(), 8), options.work / "vae.pt",
        minutes=options.vae_minutes, rates=(0.02 * pace, 2e-3 * pace), seed=options.seed,
    )  # fmt: skip
    pool, captions = encode_pool(vae, POOL, options.seed)
    denoiser = fit(
        denoiser, denoiser_loss(pool, captions, 16), options.work / "unet.pt",
        minutes=options.unet_minutes, rates=(0.01 * pace, 1e-3 * pace), seed=options.seed + 1,
    )  # fmt: skip
    if _rank_and_ranks()[0] == 0:
        with writing(options.out):
            assemble(vae, denoiser).save_pretrained(options.out)
            settle_tree(options.out)


if __name__ == "__main__":
    main()

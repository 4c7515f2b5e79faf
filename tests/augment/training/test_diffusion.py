"""Training of the small diffusion model: its optimizer, its pictures, its words, going on after a stop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from augment.training.diffusion import model as small_diffusion
from augment.training.diffusion import train
from augment.training.muon import Muon
from augment.video.styles import EMBEDDED
from benchmarks.fatezero import quality as evaluation


def test_a_step_moves_a_kernel_as_far_in_all_its_directions() -> None:
    torch.manual_seed(0)
    kernel, before = torch.nn.Parameter(torch.zeros(6, 3, 2, 2)), torch.zeros(6, 3, 2, 2)
    kernel.grad = torch.randn(6, 3, 2, 2)
    optimizer = Muon([kernel], lr=0.1)
    optimizer.step()
    sizes = torch.linalg.svdvals((kernel.detach() - before).flatten(1))
    assert 0.06 < sizes.min() < sizes.max() < 0.13
    optimizer.zero_grad()
    assert kernel.grad is None


def test_muon_solves_least_squares() -> None:
    torch.manual_seed(0)
    wanted, weight = torch.randn(6, 3, 2, 1), torch.nn.Parameter(torch.zeros(6, 3, 2, 1))
    optimizer = Muon([weight], lr=0.1)
    for step in range(200):
        optimizer.param_groups[0]["lr"] = 0.1 * (1 - step / 200)
        optimizer.zero_grad()
        ((weight - wanted) ** 2).sum().backward()
        optimizer.step()
    assert (weight - wanted).abs().max() < 0.1


def test_captions_are_one_token_a_word_and_other_words_still_fit() -> None:
    words = small_diffusion.build_tokenizer()
    for style in EMBEDDED.values():
        prompt = style.prompt("a happy person talking")
        assert len(words(prompt).input_ids) == len(prompt.split()) + 2
    assert len(words("zoë's éclair!").input_ids) > 4


def test_a_picture_and_its_caption_are_of_the_style() -> None:
    picture, caption = small_diffusion.draw(np.random.default_rng(0), "studio", "night")
    plain, plain_caption = small_diffusion.draw(np.random.default_rng(0), "studio", "")
    assert caption == EMBEDDED["night"].prompt(plain_caption)
    assert picture.shape == (64, 64, 3)
    assert picture[..., 2].mean() > 1.3 * picture[..., 0].mean()
    assert np.abs(picture - plain).mean() > 0.05


def test_training_goes_on_where_it_stopped(tmp_path: Path) -> None:
    def loss(model: Any, rng: np.random.Generator) -> torch.Tensor:
        x = torch.from_numpy(rng.standard_normal((8, 4), dtype=np.float32))
        return ((model(x).float() - x) ** 2).mean()

    def fit(minutes: float) -> Any:
        torch.manual_seed(0)
        path = tmp_path / "model.pt"
        return train.fit(torch.nn.Linear(4, 4), loss, path, minutes=minutes, rates=(0.02, 0.01), seed=0)

    first = fit(0.01)
    stopped = torch.load(tmp_path / "model.pt", weights_only=True)
    fit(0.02)
    finished = torch.load(tmp_path / "model.pt", weights_only=True)
    assert 0 < stopped["step"] < finished["step"]
    assert stopped["spent_s"] >= 0.6
    assert torch.equal(first.weight, stopped["averaged"]["weight"])
    (tmp_path / "model.pt").write_bytes(b"")  # lost with the power; the state before it is of the same step
    torch.save(finished, tmp_path / "model-before.pt")
    assert torch.equal(fit(0.02).weight, finished["averaged"]["weight"])
    start = torch.nn.Linear(4, 4)
    rng = np.random.default_rng(9)
    assert loss(first, rng) < 0.5 * loss(start, rng)


def test_figures_know_good_from_bad() -> None:
    clip = evaluation.clips(3)[0]
    assert evaluation.order_kept(clip.frames, clip.mouth) > 0.9
    assert evaluation.order_kept(np.roll(clip.frames, 3, axis=0), clip.mouth) < 0.8
    assert evaluation.psnr(clip.frames, clip.frames) > 80
    noisy = np.clip(clip.frames + np.random.default_rng(0).normal(0, 10, clip.frames.shape), 0, 255)
    assert evaluation.psnr(clip.frames, noisy) == pytest.approx(28.1, abs=0.7)
    tones = [one.tone for one in evaluation.clips(6)]
    assert sum(tone < 1 / 3 for tone in tones) == sum(tone >= 2 / 3 for tone in tones) == 2

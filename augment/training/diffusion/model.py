"""The small Stable Diffusion 1.x that ships with the project: its parts and its training images.

Its latents are 16 x 16 for images of 64 x 64, and its text encoder knows only the words of its captions.
"""

from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from augment.training.diffusion.style_renderers import RENDERERS
from augment.video.styles import EMBEDDED
from pipelines.puppets import face
from pipelines.puppets.script import SpeakerPool

SIZE = 64  # pixels of an image's side
PLAIN = 0.35  # share of images without a style
CLOSED_EYES = 0.12  # share of images with closed eyes
SUBJECTS = ("a person talking", "a happy person talking", "a calm person talking", "a sad person talking")


def draw(
    rng: np.random.Generator, cast: SpeakerPool = "studio", style: str | None = None
) -> tuple[np.ndarray, str]:
    """Draw an image, float32 (64, 64, 3) in [0, 1], and its caption; style None draws a style or none."""
    valence = rng.uniform(-1, 1)
    shift = np.clip(rng.normal(0, 0.8, 2), -2, 2)
    frame = face.draw_face(
        face.random_look(rng, cast),
        valence=valence,
        mouth=max(0.0, rng.uniform(-0.4, 1)),
        blink=float(rng.uniform() < CLOSED_EYES),
        head=(float(shift[0]), float(shift[1])),
        size=SIZE,
    )
    image = frame.astype(np.float32) / 255
    mood = 0 if rng.uniform() < 0.5 else 1 + int(valence < 0.35) + int(valence < -0.35)
    caption = SUBJECTS[mood]
    if style is None and rng.uniform() >= PLAIN:
        style = [*RENDERERS][rng.integers(len(RENDERERS))]
    if style:
        image, caption = RENDERERS[style](image, rng), EMBEDDED[style].prompt(caption)
    return image, caption


def draw_batch(rng: np.random.Generator, count: int) -> tuple[torch.Tensor, list[str]]:
    """Images in [-1, 1], (count, 3, 64, 64), and their captions."""
    images, captions = zip(*(draw(rng) for _ in range(count)), strict=True)
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2) * 2 - 1, list(captions)


def build_vae() -> Any:
    """An autoencoder with 4 channels that reduces 64 x 64 pixels to 16 x 16 latents."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(16, 32, 64),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=SIZE,
        mid_block_add_attention=False,
    )


def build_unet() -> Any:
    """A UNet with cross-attention at 16 x 16 and 8 x 8."""
    return UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(32, 80),
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=64,
        attention_head_dim=2,
        norm_num_groups=8,
    )


def build_tokenizer() -> CLIPTokenizer:
    """A byte-pair tokenizer in which each word of the captions is one token."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    captions = [*SUBJECTS, *(style.prompt(subject) for style in EMBEDDED.values() for subject in SUBJECTS)]
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.pre_tokenizer = pre_tokenizers.Whitespace()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=4096, initial_alphabet=alphabet, end_of_word_suffix="</w>", show_progress=False
    )
    learner.train_from_iterator(captions, trainer)
    merges: Any = [tuple(pair) for pair in json.loads(learner.to_str())["model"]["merges"]]
    tokens = [*alphabet, *(f"{letter}</w>" for letter in alphabet), *map("".join, merges)]
    tokens = [*dict.fromkeys(tokens), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=32)


def build_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """A text encoder of two layers of width 64."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=32,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModel(config)


class Denoiser(torch.nn.Module):
    """The two networks that are trained together on captions and latents."""

    def __init__(self) -> None:
        super().__init__()
        self.tokenizer = build_tokenizer()
        self.text_encoder = build_text_encoder(self.tokenizer)
        self.unet = build_unet()

    def forward(self, noisy: torch.Tensor, times: torch.Tensor, captions: list[str]) -> torch.Tensor:
        tokens = self.tokenizer(captions, padding="max_length", return_tensors="pt").input_ids
        words = self.text_encoder(tokens).last_hidden_state
        return self.unet(noisy, times, encoder_hidden_states=words).sample.float()


def build_scheduler() -> Any:
    """Stable Diffusion's noise schedule for DDIM sampling."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def assemble(vae: Any, denoiser: Denoiser) -> Any:
    """The pipeline that is saved, in half precision."""
    return StableDiffusionPipeline(
        vae=copy.deepcopy(vae).half(),
        text_encoder=copy.deepcopy(denoiser.text_encoder).half(),
        tokenizer=denoiser.tokenizer,
        unet=copy.deepcopy(denoiser.unet).half(),
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )

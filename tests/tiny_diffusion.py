"""A tiny Stable-Diffusion-1.x-shaped checkpoint with random weights, built from its configs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
from transformers import CLIPConfig, CLIPImageProcessor, CLIPTextConfig, CLIPTextModel, CLIPTokenizer


def tokenizer(*, length: int = 16) -> CLIPTokenizer:
    """Each letter is a token, but for a few words that are one."""
    letters = [chr(code) for code in range(33, 127)]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters)]
    merges = []
    for word in ("person", "talking", "happy", "watercolor", "painting", "of", "sepia", "night", "scene"):
        pieces = [*word[:-1], f"{word[-1]}</w>"]
        while len(pieces) > 1:
            merges.append((pieces[0], pieces[1]))
            pieces = [pieces[0] + pieces[1], *pieces[2:]]
            tokens.append(pieces[0])
    tokens = [*dict.fromkeys(tokens), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: place for place, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=[*dict.fromkeys(merges)], model_max_length=length)


def stable_diffusion(
    directory: Path,
    *,
    seed: int = 0,
    prediction_type: str = "epsilon",
    addition_embed_type: str | None = None,
) -> Path:
    """Save a checkpoint; returns the directory. Frames of 32 x 32 pixels are 8 x 8 latents."""
    torch.manual_seed(seed)
    words = tokenizer()
    text = CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=16,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 16),
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=16,
        attention_head_dim=2,
        norm_num_groups=4,
        addition_embed_type=addition_embed_type,
        addition_embed_type_num_heads=2,
    )
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(8, 8, 8),
        latent_channels=4,
        norm_num_groups=4,
        sample_size=32,
    )
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type=prediction_type,
    )
    StableDiffusionPipeline(
        vae=vae,
        text_encoder=CLIPTextModel(text),
        tokenizer=words,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(directory)
    return directory


def with_safety_checker(source: Path, directory: Path, *, flags: bool) -> Path:
    """Save a checkpoint again with a tiny safety checker, which flags every picture or none."""
    small: dict[str, Any] = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    config = CLIPConfig(
        projection_dim=16,
        vision_config=small | {"image_size": 32, "patch_size": 8},
        text_config=small | {"vocab_size": 50, "bos_token_id": 0, "eos_token_id": 1},
    )
    checker = StableDiffusionSafetyChecker(config)
    checker.concept_embeds_weights.fill_(-2 if flags else 2)  # the least cosine that is flagged
    checker.special_care_embeds_weights.fill_(2)
    plain: Any = StableDiffusionPipeline.from_pretrained(source, safety_checker=None)
    side = {"height": 32, "width": 32}
    parts = plain.components | {
        "safety_checker": checker,
        "feature_extractor": CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=side),
    }
    StableDiffusionPipeline(**parts).save_pretrained(directory)
    return directory

"""A tiny image captioner with random weights, built from its config."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import (
    BertTokenizerFast,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessor,
    BlipProcessor,
)

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "a", "person", "talking", "man", "woman", "."]


def captioner(folder: Path) -> Path:
    """Save a tiny BLIP with random weights; returns the folder."""
    torch.manual_seed(3)
    places = {
        name: WORDS.index(word) for name, word in (("pad", "[PAD]"), ("bos", "[DEC]"), ("sep", "[SEP]"))
    }
    config = BlipConfig(
        text_config={
            "vocab_size": len(WORDS),
            "hidden_size": 16,
            "encoder_hidden_size": 16,
            "intermediate_size": 32,
            "projection_dim": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "max_position_embeddings": 32,
            "pad_token_id": places["pad"],
            "bos_token_id": places["bos"],
            "sep_token_id": places["sep"],
            "eos_token_id": places["sep"],
        },
        vision_config={
            "hidden_size": 16,
            "intermediate_size": 32,
            "projection_dim": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 32,
            "patch_size": 8,
        },
    )
    BlipForConditionalGeneration(config).save_pretrained(folder)
    tokenizer = BertTokenizerFast(vocab={word: place for place, word in enumerate(WORDS)})
    BlipProcessor(BlipImageProcessor(size={"height": 32, "width": 32}), tokenizer).save_pretrained(folder)
    return folder

"""An untrained Qwen2.5-Omni thinker of any size, with its processor and its own tokenizer.

The architecture, the processor and the special tokens are the real ones; width, depth and vocabulary are
small. `finetune.thinker.train` trains one, tests use it untrained.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from tokenizers import pre_tokenizers, trainers
from transformers import (
    Qwen2_5OmniProcessor,
    Qwen2_5OmniThinkerConfig,
    Qwen2_5OmniThinkerForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
    WhisperFeatureExtractor,
)

from finetune.inputs.audio_in_video import AUDIO_IN_VIDEO

SPECIAL_TOKENS = {
    "image_token": "<|IMAGE|>",
    "audio_token": "<|AUDIO|>",
    "video_token": "<|VIDEO|>",
    "audio_bos_token": "<|audio_bos|>",
    "audio_eos_token": "<|audio_eos|>",
    "vision_bos_token": "<|vision_bos|>",
    "vision_eos_token": "<|vision_eos|>",
}
TURN_BEGIN, TURN_END, PADDING = "<|im_start|>", "<|im_end|>", "<|endoftext|>"


@dataclass(frozen=True, kw_only=True)
class ThinkerSize:
    """The size of a thinker."""

    width: int = 128
    """Of the language model and of both towers."""
    heads: int = 4
    """Attention heads everywhere."""
    language_layers: int = 4
    vision_layers: int = 2
    audio_layers: int = 2
    mel_bins: int = 80
    frame_px: int = 64
    """Side of a frame in the vision tower; frames of other shapes get at most as many pixels."""
    patch_px: int = 16
    chunk_s: int = 4
    """Seconds of audio that the processor pads to by default."""


def make_tokenizer(
    texts: Iterable[str], vocab_size: int, special_tokens: dict[str, str] = SPECIAL_TOKENS
) -> Any:
    """A byte-level BPE tokenizer of Qwen's kind, trained on texts, with a family's special tokens."""
    bpe = Qwen2Tokenizer().backend_tokenizer
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=vocab_size, initial_alphabet=alphabet, show_progress=False)
    )
    learned = json.loads(bpe.to_str())["model"]
    return Qwen2Tokenizer(
        vocab=learned["vocab"],
        merges=[tuple(merge) for merge in learned["merges"]],  # type: ignore[misc]
        eos_token=TURN_END,
        pad_token=PADDING,
        extra_special_tokens={**special_tokens, "turn_token": TURN_BEGIN},
        padding_side="left",
    )


def make_processor(tokenizer: Any, size: ThinkerSize) -> Any:
    """The real `Qwen2_5OmniProcessor` with limits for small frames and short sound."""
    pixels = {"shortest_edge": size.frame_px**2, "longest_edge": size.frame_px**2}
    vision: dict[str, Any] = {"patch_size": size.patch_px, "temporal_patch_size": 2, "merge_size": 2}
    vision["size"] = pixels
    # Frames of 20 ms, 50 a second: twice Whisper's step, half its tokens.
    extractor = WhisperFeatureExtractor(
        feature_size=size.mel_bins,
        hop_length=320,
        n_fft=800,
        chunk_length=size.chunk_s,
        return_attention_mask=True,
    )
    return Qwen2_5OmniProcessor(
        image_processor=Qwen2VLImageProcessor(**vision),
        video_processor=Qwen2VLVideoProcessor(cap_pixels_per_frame=False, **vision),
        feature_extractor=extractor,
        tokenizer=tokenizer,
    )


def initialised(tokenizer: Any, size: ThinkerSize, seed: int) -> Any:
    """A `Qwen2_5OmniThinkerForConditionalGeneration` with weights drawn from a seed, in evaluation mode."""
    token_id = tokenizer.convert_tokens_to_ids
    special = {name: token_id(token) for name, token in SPECIAL_TOKENS.items()}
    fields: dict[str, Any] = {
        "text_config": _language_config(len(tokenizer), size, token_id(PADDING), token_id(TURN_END)),
        "vision_config": {
            "depth": size.vision_layers,
            "hidden_size": size.width,
            "intermediate_size": 3 * size.width,
            "num_heads": size.heads,
            "patch_size": size.patch_px,
            "window_size": size.frame_px,
            "out_hidden_size": size.width,
            "fullatt_block_indexes": list(range(size.vision_layers)),
        },
        "audio_config": {
            "num_mel_bins": size.mel_bins,
            "encoder_layers": size.audio_layers,
            "encoder_attention_heads": size.heads,
            "encoder_ffn_dim": 3 * size.width,
            "d_model": size.width,
            "max_source_positions": 256,
            "n_window": 100,
            "output_dim": size.width,
        },
        "audio_token_index": special["audio_token"],
        "image_token_index": special["image_token"],
        "video_token_index": special["video_token"],
        "audio_start_token_id": special["audio_bos_token"],
        "audio_end_token_id": special["audio_eos_token"],
        "vision_start_token_id": special["vision_bos_token"],
        "vision_end_token_id": special["vision_eos_token"],
        "user_token_id": token_id("user"),
        "pad_token_id": token_id(PADDING),
        "eos_token_id": token_id(TURN_END),
        "tie_word_embeddings": True,
        AUDIO_IN_VIDEO: False,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Qwen2_5OmniThinkerForConditionalGeneration(Qwen2_5OmniThinkerConfig(**fields)).eval()


def _language_config(vocab_size: int, size: ThinkerSize, pad_id: int, end_id: int) -> dict[str, Any]:
    sections = size.width // size.heads // 2  # of the rotary dimensions, for time, height and width
    return {
        "vocab_size": vocab_size,
        "hidden_size": size.width,
        "intermediate_size": 3 * size.width,
        "num_hidden_layers": size.language_layers,
        "num_attention_heads": size.heads,
        "num_key_value_heads": max(1, size.heads // 2),
        "max_position_embeddings": 2048,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10_000.0,
            "mrope_section": [sections - 2 * (sections * 3 // 8), sections * 3 // 8, sections * 3 // 8],
        },
        "pad_token_id": pad_id,
        "eos_token_id": end_id,
        "tie_word_embeddings": True,
    }

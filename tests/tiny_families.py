"""A tiny model of each family that can be fine-tuned: real classes, real processors, random weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from finetune.inputs.question import rating_question
from finetune.thinker.architecture import PADDING, TURN_BEGIN, TURN_END, make_tokenizer
from tests import tiny

WIDTH, HEADS, LAYERS = 32, 2, 2
MEL_BINS = 16
PATCH_PX, FRAME_PX = 8, 32
OPENING = "system\nYou are a helpful assistant. user assistant\n"

# What each family's tokenizer has beside its words, by the names under which its processor looks for them.
VISION = {
    "image_token": "<|image_pad|>",
    "video_token": "<|video_pad|>",
    "vision_start_token": "<|vision_start|>",
    "vision_end_token": "<|vision_end|>",
}
OMNI = {
    "image_token": "<|image_pad|>",
    "audio_token": "<|audio_pad|>",
    "video_token": "<|video_pad|>",
    "vision_bos_token": "<|vision_start|>",
    "vision_eos_token": "<|vision_end|>",
    "audio_bos_token": "<|audio_start|>",
    "audio_eos_token": "<|audio_end|>",
}
AUDIO = {
    "audio_token": "<|AUDIO|>",
    "audio_bos_token": "<|audio_bos|>",
    "audio_eos_token": "<|audio_eos|>",
}
# Chat templates as the families' checkpoints have them, without what nobody here uses.
CHAT = (
    "{%- for message in messages -%}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{%- for part in message['content'] -%}"
    "{%- if part['type'] == 'video' -%}VIDEO{%- elif part['type'] == 'audio' -%}AUDIO"
    "{%- else -%}{{ part['text'] }}{%- endif -%}{%- endfor -%}{{ '<|im_end|>\n' }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}"
)
VISION_CHAT = CHAT.replace("VIDEO", "<|vision_start|><|video_pad|><|vision_end|>")
OMNI_CHAT = VISION_CHAT.replace("AUDIO", "<|audio_start|><|audio_pad|><|audio_end|>")


def tokenizer(special_tokens: dict[str, str]) -> Any:
    """A tokenizer with a family's special tokens."""
    words = [rating_question("mosi", "en"), OPENING, "<0.1 seconds> Audio 1: ", *tiny.TEXTS]
    return make_tokenizer(words, 400, special_tokens)


def save(directory: Path, processor: Any, model_class: Any, config: Any) -> Path:
    """Save a processor and a model with random weights; returns the directory."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = model_class(config)
    for name, value in model.named_parameters():
        # A router's weight is left at 0, a norm's at 1: such a model would hide what goes wrong in it.
        if value.std() == 0:
            value.data += 0.1 * torch.randn(value.shape, generator=torch.Generator().manual_seed(len(name)))
    model.save_pretrained(directory)
    processor.save_pretrained(directory)
    return directory


def text_config(words: Any, **changes: Any) -> dict[str, Any]:
    """Of a language model of the Qwen kind."""
    plain: dict[str, Any] = {
        "vocab_size": len(words),
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": 1,
        "max_position_embeddings": 2048,
        "pad_token_id": words.convert_tokens_to_ids(PADDING),
        "bos_token_id": None,
        "eos_token_id": words.convert_tokens_to_ids(TURN_END),
    }
    return plain | changes


def rope(**changes: Any) -> dict[str, Any]:
    """Rotary positions in time, height and width."""
    return {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [4, 2, 2]} | changes


def deep_vision() -> dict[str, Any]:
    """Of a vision tower of the Qwen3 kind, its first layer passed on as well."""
    return {
        "depth": 2,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_heads": 2,
        "patch_size": PATCH_PX,
        "out_hidden_size": WIDTH,
        "num_position_embeddings": 16,
        "deepstack_visual_indexes": [0],
    }


def video_parts(**changes: Any) -> dict[str, Any]:
    """What both processors of pictures are made with."""
    size = {"shortest_edge": FRAME_PX**2, "longest_edge": FRAME_PX**2}
    return {"patch_size": PATCH_PX, "temporal_patch_size": 2, "merge_size": 2, "size": size} | changes


def ids(words: Any, special_tokens: dict[str, str], names: dict[str, str]) -> dict[str, int]:
    """Fields of a configuration from the tokens' names."""
    return {field: words.convert_tokens_to_ids(special_tokens[name]) for field, name in names.items()}


VISION_IDS = {
    "image_token_id": "image_token",
    "video_token_id": "video_token",
    "vision_start_token_id": "vision_start_token",
    "vision_end_token_id": "vision_end_token",
}


def qwen2_5_vl(directory: Path) -> Path:
    """Qwen2.5-VL."""
    from transformers import (
        Qwen2_5_VLConfig,
        Qwen2_5_VLForConditionalGeneration,
        Qwen2_5_VLProcessor,
        Qwen2VLImageProcessor,
        Qwen2VLVideoProcessor,
    )

    words = tokenizer(VISION)
    config = Qwen2_5_VLConfig(
        text_config=text_config(words, rope_parameters=rope()),
        vision_config={
            "depth": 2,
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_heads": 2,
            "patch_size": PATCH_PX,
            "window_size": FRAME_PX,
            "out_hidden_size": WIDTH,
            "fullatt_block_indexes": [1],
        },
        **ids(words, VISION, VISION_IDS),
    )
    processor = Qwen2_5_VLProcessor(
        Qwen2VLImageProcessor(**video_parts()),
        words,
        Qwen2VLVideoProcessor(**video_parts()),
        chat_template=VISION_CHAT,
    )
    return save(directory, processor, Qwen2_5_VLForConditionalGeneration, config)


def qwen3_vl(directory: Path) -> Path:
    """Qwen3-VL."""
    from transformers import (
        Qwen2VLImageProcessor,
        Qwen3VLConfig,
        Qwen3VLForConditionalGeneration,
        Qwen3VLProcessor,
        Qwen3VLVideoProcessor,
    )

    words = tokenizer(VISION)
    config = Qwen3VLConfig(
        text_config=text_config(words, head_dim=16, rope_parameters=rope(mrope_interleaved=True)),
        vision_config=deep_vision(),
        **ids(words, VISION, VISION_IDS),
    )
    # This family's limits are of a whole clip's pixels.
    volume = {"shortest_edge": FRAME_PX**2, "longest_edge": 8 * FRAME_PX**2}
    processor = Qwen3VLProcessor(
        Qwen2VLImageProcessor(**video_parts()),
        words,
        Qwen3VLVideoProcessor(**video_parts(size=volume)),
        chat_template=VISION_CHAT,
    )
    return save(directory, processor, Qwen3VLForConditionalGeneration, config)


def qwen3_omni_config(words: Any) -> Any:
    """Of a thinker of Qwen3-Omni; its window of 100 frames is the only one that its code can count."""
    from transformers import Qwen3OmniMoeThinkerConfig

    names = ("image_token", "video_token", "audio_token")
    return Qwen3OmniMoeThinkerConfig(
        text_config=text_config(
            words,
            head_dim=16,
            rope_parameters=rope(mrope_interleaved=True),
            moe_intermediate_size=16,
            num_experts=4,
            num_experts_per_tok=2,
        ),
        vision_config=deep_vision(),
        audio_config={
            "num_mel_bins": MEL_BINS,
            "encoder_layers": 2,
            "encoder_attention_heads": 2,
            "encoder_ffn_dim": 32,
            "d_model": 16,
            "output_dim": WIDTH,
            "n_window_infer": 200,
            "initializer_range": 0.3,  # or three convolutions leave next to nothing of the sound
            "downsample_hidden_size": 4,
        },
        position_id_per_seconds=13,
        audio_start_token_id=words.convert_tokens_to_ids(OMNI["audio_bos_token"]),
        audio_end_token_id=words.convert_tokens_to_ids(OMNI["audio_eos_token"]),
        vision_start_token_id=words.convert_tokens_to_ids(OMNI["vision_bos_token"]),
        vision_end_token_id=words.convert_tokens_to_ids(OMNI["vision_eos_token"]),
        **ids(words, OMNI, {f"{name}_id": name for name in names}),
    )


def qwen3_omni_processor(words: Any) -> Any:
    """Of Qwen3-Omni."""
    from transformers import (
        Qwen2VLImageProcessor,
        Qwen2VLVideoProcessor,
        Qwen3OmniMoeProcessor,
        WhisperFeatureExtractor,
    )

    return Qwen3OmniMoeProcessor(
        image_processor=Qwen2VLImageProcessor(**video_parts()),
        video_processor=Qwen2VLVideoProcessor(**video_parts()),
        feature_extractor=WhisperFeatureExtractor(feature_size=MEL_BINS, return_attention_mask=True),
        tokenizer=words,
        chat_template=OMNI_CHAT,
    )


def qwen3_omni_moe(directory: Path) -> Path:
    """The thinker of Qwen3-Omni."""
    from transformers import Qwen3OmniMoeThinkerForConditionalGeneration

    words = tokenizer(OMNI)
    return save(
        directory,
        qwen3_omni_processor(words),
        Qwen3OmniMoeThinkerForConditionalGeneration,
        qwen3_omni_config(words),
    )


def qwen2_audio(directory: Path) -> Path:
    """Qwen2-Audio, which hears two seconds here where the real one hears thirty."""
    from transformers import (
        Qwen2AudioConfig,
        Qwen2AudioForConditionalGeneration,
        Qwen2AudioProcessor,
        WhisperFeatureExtractor,
    )

    words = tokenizer(AUDIO)
    config = Qwen2AudioConfig(
        text_config=text_config(words) | {"model_type": "qwen2"},
        audio_config={
            "model_type": "qwen2_audio_encoder",
            "num_mel_bins": MEL_BINS,
            "encoder_layers": 2,
            "encoder_attention_heads": 2,
            "encoder_ffn_dim": 32,
            "d_model": 16,
            "max_source_positions": 100,
        },
        audio_token_index=words.convert_tokens_to_ids(AUDIO["audio_token"]),
    )
    extractor = WhisperFeatureExtractor(feature_size=MEL_BINS, chunk_length=2, return_attention_mask=True)
    return save(directory, Qwen2AudioProcessor(extractor, words), Qwen2AudioForConditionalGeneration, config)


def qwen2(directory: Path) -> Path:
    """A language model with a chat template."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    words = tokenizer({})
    words.chat_template = (
        "{%- for message in messages -%}{{ '<|im_start|>' + message['role'] + '\n' + message['content']"
        " + '<|im_end|>\n' }}{%- endfor -%}"
        "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}"
    )
    return save(directory, words, Qwen2ForCausalLM, Qwen2Config(**text_config(words)))


def qwen3(directory: Path) -> Path:
    """A language model without a chat template, with a tool token that is no special one."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    words = tokenizer({})
    words.add_tokens(["<think>", "</think>"])
    return save(directory, words, Qwen3ForCausalLM, Qwen3Config(**text_config(words, head_dim=16)))


def llama(directory: Path) -> Path:
    """A language model whose prompts begin with a token of their own, and without a token for padding."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    special = ["<|begin_of_text|>", "<|eot_id|>", TURN_BEGIN]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=special,
        show_progress=False,
    )
    bpe.train_from_iterator([rating_question("mosi", "en"), *tiny.TEXTS], trainer)
    bpe.post_processor = processors.TemplateProcessing(
        single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", 0)]
    )
    words = PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token="<|begin_of_text|>", eos_token="<|eot_id|>"
    )
    config = LlamaConfig(**text_config(words, pad_token_id=None, bos_token_id=0, eos_token_id=1))
    return save(directory, words, LlamaForCausalLM, config)


BUILDERS: dict[str, Callable[[Path], Path]] = {
    "qwen2_5_omni_thinker": tiny.thinker,
    "qwen3_omni_moe_thinker": qwen3_omni_moe,
    "qwen2_5_vl": qwen2_5_vl,
    "qwen3_vl": qwen3_vl,
    "qwen2_audio": qwen2_audio,
    "qwen2": qwen2,
    "qwen3": qwen3,
    "llama": llama,
}

"""Tiny models for the scorer, of real architectures with random weights, saved for `from_pretrained`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tests import tiny_encoders
from tests.tiny_encoders import PICTURE, SIZES, SOUND

CLASSES = 4
LETTERS = "abcdefghijklmnopqrstuvwxyz"
MARKS = (
    "<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|de|>", "<|translate|>", "<|transcribe|>",
    "<|startofprev|>", "<|startoflm|>", "<|nospeech|>", "<|notimestamps|>",
)  # fmt: skip


def clip(directory: Path, seed: int = 0) -> Path:
    """A CLIP to which different pictures are far apart; other weights by seed."""
    import transformers

    tiny_encoders.video(directory, "clip")
    config = transformers.AutoConfig.from_pretrained(directory)
    config.vision_config.initializer_factor = config.initializer_factor = 10.0
    seeded(transformers.CLIPModel, config, seed).save_pretrained(directory)
    return directory


def siglip(directory: Path) -> Path:
    import transformers

    halves = {"vision_config": PICTURE, "text_config": SIZES | {"vocab_size": 20}}
    model = seeded(transformers.SiglipModel, transformers.SiglipConfig(**halves))
    return saved(directory, transformers.SiglipImageProcessor(size={"height": 32, "width": 32}), model)


def expression(directory: Path) -> Path:
    """A ViT with a head for classes that differ clearly."""
    import transformers

    config = transformers.ViTConfig(**PICTURE, num_labels=CLASSES)
    model = seeded(transformers.ViTForImageClassification, config)
    model.classifier.weight.data *= 20
    return saved(directory, transformers.ViTImageProcessor(size={"height": 32, "width": 32}), model)


def emotion(directory: Path) -> Path:
    """A wav2vec2 with a head for classes that differ clearly."""
    import transformers

    config = transformers.Wav2Vec2Config(**SOUND, num_labels=CLASSES, classifier_proj_size=8)
    model = seeded(transformers.Wav2Vec2ForSequenceClassification, config)
    model.classifier.weight.data *= 1000
    return saved(directory, transformers.Wav2Vec2FeatureExtractor(), model)


def speaker(directory: Path) -> Path:
    """A WavLM with an x-vector head."""
    import transformers

    config = transformers.WavLMConfig(
        **SOUND, tdnn_dim=(8, 8), tdnn_kernel=(3, 1), tdnn_dilation=(1, 1), xvector_output_dim=8
    )
    model = seeded(transformers.WavLMForXVector, config)
    return saved(directory, transformers.Wav2Vec2FeatureExtractor(), model)


def whisper(directory: Path) -> Path:
    """A Whisper of two languages, whose words are letters."""
    import transformers

    vocabulary = {word: index for index, word in enumerate(("<unk>", *LETTERS, *MARKS))}
    tokenizer = transformers.WhisperTokenizer(vocab=vocabulary, merges=[])
    extractor = transformers.WhisperFeatureExtractor(feature_size=16)
    end, start = vocabulary["<|endoftext|>"], vocabulary["<|startoftranscript|>"]
    tokens = {
        "eos_token_id": end, "bos_token_id": end, "pad_token_id": end, "decoder_start_token_id": start,
        "suppress_tokens": None, "begin_suppress_tokens": None,
    }  # fmt: skip
    config = transformers.WhisperConfig(
        vocab_size=len(tokenizer), d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, num_mel_bins=16,
        max_target_positions=24, **tokens,
    )  # fmt: skip
    model = seeded(transformers.WhisperForConditionalGeneration, config)
    model.generation_config = transformers.GenerationConfig(
        **tokens, is_multilingual=True, max_length=12, no_timestamps_token_id=vocabulary["<|notimestamps|>"],
        lang_to_id={name: vocabulary[name] for name in ("<|en|>", "<|de|>")},
        task_to_id={name: vocabulary[f"<|{name}|>"] for name in ("transcribe", "translate")},
    )  # fmt: skip
    return saved(directory, transformers.WhisperProcessor(extractor, tokenizer), model)


def moonshine(directory: Path) -> Path:
    """A Moonshine whose words are letters."""
    import tokenizers
    import transformers

    vocabulary = {word: index for index, word in enumerate(("<unk>", "<s>", "</s>", *LETTERS))}
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<unk>"))
    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>", "unk_token": "<unk>"}
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=words, **names)
    config = transformers.MoonshineConfig(
        vocab_size=len(vocabulary), hidden_size=16, intermediate_size=32, encoder_num_hidden_layers=1,
        decoder_num_hidden_layers=1, encoder_num_attention_heads=2, decoder_num_attention_heads=2,
        bos_token_id=1, eos_token_id=2, pad_token_id=2, decoder_start_token_id=1,
    )  # fmt: skip
    model = seeded(transformers.MoonshineForConditionalGeneration, config)
    model.generation_config.max_length = 12
    extractor = transformers.Wav2Vec2FeatureExtractor(do_normalize=False, return_attention_mask=True)
    return saved(directory, transformers.Wav2Vec2Processor(extractor, tokenizer), model)


def ctc(directory: Path) -> Path:
    """A wav2vec2 that spells."""
    import json

    import transformers

    directory.mkdir(parents=True, exist_ok=True)
    vocabulary = {sign: index for index, sign in enumerate(("<pad>", "<s>", "</s>", "<unk>", "|", *LETTERS))}
    (directory / "vocab.json").write_text(json.dumps(vocabulary))
    tokenizer = transformers.Wav2Vec2CTCTokenizer(str(directory / "vocab.json"))
    config = transformers.Wav2Vec2Config(**SOUND, vocab_size=len(vocabulary), pad_token_id=0)
    model = seeded(transformers.Wav2Vec2ForCTC, config)
    model.lm_head.weight.data *= 20
    extractor = transformers.Wav2Vec2FeatureExtractor()
    return saved(directory, transformers.Wav2Vec2Processor(extractor, tokenizer), model)


def seeded(model_class: Callable[[Any], Any], config: Any, seed: int = 0) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return model_class(config).eval()


def saved(directory: Path, processor: Any, model: Any) -> Path:
    processor.save_pretrained(directory)
    model.save_pretrained(directory)
    return directory

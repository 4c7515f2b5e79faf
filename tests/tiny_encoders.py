"""Tiny encoders of real architectures with random weights, saved so that `from_pretrained` loads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

WIDTH, HEADS, LAYERS = 16, 2, 2
WORDS = ("a", "good", "bad", "day", "what", "film", "is", "it", "not", "##s")
SIZES: dict[str, Any] = {
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "intermediate_size": 2 * WIDTH,
}
SOUND: dict[str, Any] = SIZES | {
    "conv_dim": (8, 8, 8),
    "conv_kernel": (10, 8, 4),
    "conv_stride": (5, 8, 8),
    "num_feat_extract_layers": 3,
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
}
PICTURE: dict[str, Any] = SIZES | {"image_size": 32, "patch_size": 8}


def text(directory: Path, kind: str = "bert") -> Path:
    """A BERT, or a DeBERTa of the second kind, with an uncased vocabulary of a few words."""
    from transformers import BertConfig, BertModel, BertTokenizer, DebertaV2Config, DebertaV2Model

    vocabulary = {
        word: index for index, word in enumerate(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS))
    }
    tokenizer = BertTokenizer(vocab=vocabulary, model_max_length=32)
    sizes = SIZES | {"vocab_size": len(vocabulary), "max_position_embeddings": 32}
    torch.manual_seed(0)
    if kind == "bert":
        model: Any = BertModel(BertConfig(**sizes))
    else:
        config = DebertaV2Config(**sizes, relative_attention=True, pos_att_type=["p2c", "c2p"])
        model = DebertaV2Model(config)
    return _saved(directory, tokenizer, model)


def audio(directory: Path, kind: str = "wavlm") -> Path:
    """A WavLM, HuBERT or wav2vec2."""
    import transformers

    names = {"wavlm": "WavLM", "hubert": "Hubert", "wav2vec2": "Wav2Vec2"}
    config = getattr(transformers, f"{names[kind]}Config")(**SOUND)
    torch.manual_seed(0)
    model = getattr(transformers, f"{names[kind]}Model")(config)
    return _saved(directory, transformers.Wav2Vec2FeatureExtractor(), model)


def video(directory: Path, kind: str = "vit") -> Path:
    """A ViT, DINOv2, CLIP (with its half for words) or ResNet."""
    import transformers

    size = {"height": 32, "width": 32}
    processor = transformers.ViTImageProcessor(size=size)
    torch.manual_seed(0)
    if kind == "clip":
        halves = {"vision_config": PICTURE, "text_config": SIZES | {"vocab_size": 20}}
        model: Any = transformers.CLIPModel(transformers.CLIPConfig(**halves, projection_dim=12))
        processor = transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=size)
    elif kind == "resnet":
        sizes = {"embedding_size": 8, "hidden_sizes": [8, WIDTH], "depths": [1, 1], "layer_type": "basic"}
        model = transformers.ResNetModel(transformers.ResNetConfig(**sizes))
    elif kind == "dinov2":
        model = transformers.Dinov2Model(transformers.Dinov2Config(**PICTURE))
    else:
        model = transformers.ViTModel(transformers.ViTConfig(**PICTURE))
    return _saved(directory, processor, model)


def _saved(directory: Path, processor: Any, model: Any) -> Path:
    processor.save_pretrained(directory)
    model.eval().save_pretrained(directory)
    return directory

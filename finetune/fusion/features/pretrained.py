"""Pre-trained encoders for a store's features: hidden states of transformers models, by Hub id or folder.

    text    any encoder of words (BERT, DeBERTa, MiniLM): a vector for each token that stands for words
    audio   an encoder of waveforms (WavLM, HuBERT, wav2vec2): hidden states, averaged to so many a second
    video   an encoder of images (CLIP, SigLIP, ViT, DINOv2): a vector for each frame

An encoder looks at one clip alone, so that what is beside it in a batch changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pipelines.errors import UsageError
from pipelines.pretrained import Pretrained

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SAMPLING_RATE = 16_000
MAX_TOKENS = 512  # of a transcript; encoders with learned positions have no more
SHORTEST = 800  # samples, 50 ms: convolutions need more than their reach


@dataclass(frozen=True)
class TextEncoder:
    """Words to hidden states."""

    tokenizer: Any
    model: PreTrainedModel
    max_tokens: int = MAX_TOKENS

    @torch.inference_mode()
    def __call__(self, text: str) -> np.ndarray | None:
        """A vector for each token that is no special one, (tokens, d); None where there is none.

        A transcript in capitals alone, as MOSI's are, is lower-cased: encoders that tell cases
        apart have hardly seen such words.
        """
        encoded = self.tokenizer(
            text.lower() if text.isupper() else text,
            return_special_tokens_mask=True,
            truncation=True,
            max_length=min(self.max_tokens, self.tokenizer.model_max_length),
            return_tensors="pt",
        )
        words = ~encoded.pop("special_tokens_mask")[0].bool()  # (tokens,)
        if not words.any():
            return None
        states = self.model(**encoded.to(self.model.device)).last_hidden_state[0]  # (tokens, d)
        return _array(states[words.to(states.device)])


@dataclass(frozen=True)
class AudioEncoder:
    """Sound to hidden states."""

    extractor: Any
    model: PreTrainedModel

    @torch.inference_mode()
    def __call__(self, samples: np.ndarray, fps: float) -> np.ndarray:
        """Hidden states of float32 mono at 16 kHz, averaged to at most `fps` a second, (steps, d)."""
        padded = np.pad(samples, (0, max(0, SHORTEST - len(samples))))
        inputs = self.extractor(padded, sampling_rate=SAMPLING_RATE, return_tensors="pt")
        values = inputs["input_values"].to(self.model.device)
        states = self.model(input_values=values).last_hidden_state  # (1, T, d)
        steps = max(1, round(len(padded) / SAMPLING_RATE * fps))
        if steps < states.shape[1]:
            states = torch.nn.functional.adaptive_avg_pool1d(states.mT, steps).mT
        return _array(states[0])


@dataclass(frozen=True)
class ImageEncoder:
    """Frames to one vector each."""

    processor: Any
    model: PreTrainedModel
    batch_size: int

    @torch.inference_mode()
    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """A vector for each uint8 RGB frame, (F, H, W, 3) -> (F, d)."""
        vectors = []
        for start in range(0, len(frames), self.batch_size):
            images = [torch.from_numpy(frame).permute(2, 0, 1) for frame in frames[start:][: self.batch_size]]
            inputs = self.processor(images=images, return_tensors="pt", input_data_format="channels_first")
            vectors.append(_array(image_vectors(self.model, inputs["pixel_values"].to(self.model.device))))
        return np.concatenate(vectors)


def image_vectors(model: PreTrainedModel, pixels: torch.Tensor) -> torch.Tensor:
    """What a model makes of images, (F, 3, H, W) -> (F, d).

    Of a model of images and words its image embedding; of a transformer with a class token that
    token's state; of others the mean over places. A pooler on top is not asked: checkpoints that
    were fine-tuned for classes come without one.
    """
    if hasattr(model, "get_image_features"):
        asked: Any = model.get_image_features
        found = asked(pixel_values=pixels)
        return found if isinstance(found, torch.Tensor) else found.pooler_output
    states = model(pixel_values=pixels).last_hidden_state
    if states.ndim == 4:  # (F, d, h, w) of a convolutional network
        return states.mean((2, 3))
    if any(name.endswith("cls_token") for name, _ in model.named_parameters()):
        return states[:, 0]
    return states.mean(1)  # (F, places, d) -> (F, d)


def load_text(name: str, revision: str | None, device: str, max_tokens: int = MAX_TOKENS) -> TextEncoder:
    """Load an encoder of words.

    Raises:
        UsageError: If it cannot be had, or is no such encoder.
    """
    source = _named("text", name, revision)
    tokenizer, model = source.load(processor="AutoTokenizer", model="AutoModel", device=device)
    _check_input("text", name, model, "input_ids", "BERT, DeBERTa or MiniLM")
    return TextEncoder(tokenizer, model, max_tokens)


def load_audio(name: str, revision: str | None, device: str) -> AudioEncoder:
    """Load an encoder of waveforms at 16 kHz.

    Raises:
        UsageError: If it cannot be had, or is no such encoder.
    """
    source = _named("audio", name, revision)
    extractor, model = source.load(processor="AutoFeatureExtractor", model="AutoModel", device=device)
    _check_input("audio", name, model, "input_values", "WavLM, HuBERT or wav2vec2")
    source.check_hearing(extractor, SAMPLING_RATE)
    return AudioEncoder(extractor, model)


def load_video(name: str, revision: str | None, device: str, batch_size: int) -> ImageEncoder:
    """Load an encoder of images.

    Raises:
        UsageError: If it cannot be had, or is no such encoder.
    """
    source = _named("video", name, revision)
    processor, model = source.load(processor="AutoImageProcessor", model="AutoModel", device=device)
    if not hasattr(model, "get_image_features"):
        _check_input("video", name, model, "pixel_values", "CLIP, ViT or DINOv2")
    return ImageEncoder(processor, model, batch_size)


LOADERS: dict[str, Callable[..., Any]] = {"text": load_text, "audio": load_audio, "video": load_video}


def _named(key: str, name: str, revision: str | None) -> Pretrained:
    setting = f"fusion.extract.{key}"
    return Pretrained(
        setting=setting,
        name=name,
        revision=revision,
        advice="takes a built-in encoder, a Hub id or a folder, and takes weights as safetensors;"
        f" {setting}_revision may name a revision with them",
    )


def _check_input(key: str, name: str, model: Any, wanted: str, examples: str) -> None:
    if model.main_input_name != wanted or model.config.is_encoder_decoder:
        raise UsageError(
            f"fusion.extract.{key}: {name!r} is a {type(model).__name__}, which reads"
            f" {model.main_input_name}; takes an encoder that reads {wanted}, like {examples}"
        )


def _array(states: torch.Tensor) -> np.ndarray:
    return states.float().cpu().numpy()

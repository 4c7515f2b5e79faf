"""Pre-trained encoders for a store's features: hidden states of transformers models, by Hub id or folder.

    text    a text encoder (BERT, DeBERTa, MiniLM): a vector for each token that is not a special one
    audio   an encoder of waveforms (WavLM, HuBERT, wav2vec2): hidden states, averaged to a given rate
    video   an encoder of images (CLIP, SigLIP, ViT, DINOv2): a vector for each frame

An encoder sees one clip at a time, so that other clips in a batch change nothing.
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
MAX_TOKENS = 512  # of a transcript; encoders with learned positions take no more
SHORTEST = 800  # samples, 50 ms: convolutions need more than their receptive field


@dataclass(frozen=True)
class TextEncoder:
    """Text to hidden states."""

    tokenizer: Any
    model: PreTrainedModel
    max_tokens: int = MAX_TOKENS

    @torch.inference_mode()
    def __call__(self, text: str) -> np.ndarray | None:
        """A vector for each token that is not a special one, (tokens, d); None if there is none.

        A transcript in capitals only, as MOSI's are, is lower-cased: cased encoders have hardly seen
        such words.
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
    """Audio to hidden states."""

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
    """A model's vectors of images, (F, 3, H, W) -> (F, d).

    Models like CLIP give their image embedding, transformers with a class token the state of that token,
    others the mean over positions. A pooler is not used: checkpoints fine-tuned for classification have none.
    """
    if hasattr(model, "get_image_features"):
        output: Any = model.get_image_features(pixel_values=pixels)  # type: ignore[operator]
        return output if isinstance(output, torch.Tensor) else output.pooler_output
    states = model(pixel_values=pixels).last_hidden_state
    if states.ndim == 4:  # (F, d, h, w) of a convolutional network
        return states.mean((2, 3))
    if any(name.endswith("cls_token") for name, _ in model.named_parameters()):
        return states[:, 0]
    return states.mean(1)  # (F, positions, d) -> (F, d)


# By modality: the Auto class of the processor, the input that an encoder reads, examples, and the class here.
KINDS: dict[str, tuple[str, str, str, Callable[..., Any]]] = {
    "text": ("AutoTokenizer", "input_ids", "BERT, DeBERTa or MiniLM", TextEncoder),
    "audio": ("AutoFeatureExtractor", "input_values", "WavLM, HuBERT or wav2vec2", AudioEncoder),
    "video": ("AutoImageProcessor", "pixel_values", "CLIP, ViT or DINOv2", ImageEncoder),
}


def load(modality: str, name: str, revision: str | None, device: str, **options: Any) -> Any:
    """Load the encoder of a modality.

    Args:
        modality: A key of `KINDS`.
        name: A Hub id or a folder.
        revision: Commit or tag on the Hub; None takes the newest.
        device: The torch device that it runs on.
        options: Further fields of the encoder's class.

    Raises:
        UsageError: If it cannot be loaded or is not an encoder of that modality.
    """
    processor_class, input_name, examples, encoder_class = KINDS[modality]
    setting = f"fusion.extract.{modality}"
    source = Pretrained(
        setting=setting,
        name=name,
        revision=revision,
        advice="takes a built-in encoder, a Hub id or a folder, and takes weights as safetensors;"
        f" {setting}_revision may name a revision with them",
    )
    processor, model = source.load(processor=processor_class, model="AutoModel", device=device)
    # The main input of models like CLIP is text, but they encode images too.
    encodes_images = modality == "video" and hasattr(model, "get_image_features")
    if not encodes_images and (model.main_input_name != input_name or model.config.is_encoder_decoder):
        raise UsageError(
            f"{setting}: {name!r} is a {type(model).__name__}, which reads"
            f" {model.main_input_name}; takes an encoder that reads {input_name}, like {examples}"
        )
    if modality == "audio":
        source.check_hearing(processor, SAMPLING_RATE)
    return encoder_class(processor, model, **options)


def _array(states: torch.Tensor) -> np.ndarray:
    return states.float().cpu().numpy()

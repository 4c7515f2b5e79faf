"""Content and speaker encoders from `transformers`: Whisper, wav2vec2 and its relatives, x-vector models.

They read samples, are frozen, and each has a feature extractor. The small encoders in `model` read a mel
spectrogram and have none. `content` and `speaker` call either kind.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn import functional

# diffusers loads a component by the base class that it finds in the component's module.
from transformers import PreTrainedModel, WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from augment.voice_conversion.mel import SAMPLING_RATE
from pipelines.errors import UsageError
from pipelines.pretrained import Pretrained

WINDOW_S = 30  # Whisper's input; the other encoders get long audio in such windows too
SHORTEST_S = 0.5  # x-vector models get at least this much audio: their convolutions over time need it
CONVOLVING = ("wav2vec2", "hubert", "wavlm", "unispeech-sat")  # model types that convolve over samples


class WhisperContentEncoder(WhisperEncoder):
    """The encoder of a Whisper model alone, so that no decoder is loaded and saved with it."""

    config_class = WhisperConfig


class EncoderInput(NamedTuple):
    """A batch of equally long waveforms."""

    samples: torch.Tensor
    """At 16 kHz, on the CPU, (batch, samples). For encoders with a feature extractor."""
    mel: torch.Tensor
    """Normalised mel spectrogram on the networks' device and in their precision, (batch, frames, bands)."""


def load_content(name: str, setting: str = "content_encoder") -> tuple[PreTrainedModel, Any]:
    """Load a frozen content encoder and its feature extractor.

    Args:
        name: Hub id or directory of a Whisper, wav2vec2, HuBERT or WavLM model.
        setting: The setting that names it, for messages.

    Raises:
        UsageError: If it cannot be loaded or is another kind of model.
    """
    advice = "wanted a Hub id or directory of Whisper, wav2vec2, HuBERT or WavLM"
    source = Pretrained(setting=setting, name=name, advice=advice)
    kind = source.config().model_type
    if kind != "whisper" and kind not in CONVOLVING:
        raise UsageError(f"{setting}: {name!r} is a model of type {kind}; {advice}")
    model, extractor = _load(source, "AutoModel")
    if kind != "whisper":
        return model, extractor
    encoder = WhisperContentEncoder(model.config)
    encoder.load_state_dict(model.encoder.state_dict())
    return encoder.eval().requires_grad_(False), extractor


def load_speaker(name: str, setting: str = "speaker_encoder") -> tuple[PreTrainedModel, Any]:
    """Load a frozen x-vector model and its feature extractor.

    Args:
        name: Hub id or directory of a model for `AutoModelForAudioXVector`.
        setting: The setting that names it, for messages.

    Raises:
        UsageError: If it cannot be loaded, is another kind of model, or lacks weights.
    """
    advice = "wanted a Hub id or directory of an x-vector model, such as microsoft/wavlm-base-plus-sv"
    return _load(Pretrained(setting=setting, name=name, advice=advice), "AutoModelForAudioXVector")


def _load(source: Pretrained, model_class: str) -> tuple[Any, Any]:
    extractor, model = source.load(processor="AutoFeatureExtractor", model=model_class)
    source.check_hearing(extractor, SAMPLING_RATE)
    return model, extractor


def size(encoder: Any) -> int:
    """The feature size of an encoder: of a position for content, of a waveform for speakers."""
    names = ("xvector_output_dim",) if hasattr(encoder, "tdnn") else ("size", "hidden_size", "d_model")
    return next(value for name in names if (value := getattr(encoder.config, name, None)) is not None)


def content(encoder: Any, extractor: Any, sounds: EncoderInput) -> torch.Tensor:
    """Content features.

    Args:
        encoder: From `load_content`, or a network that reads a mel spectrogram.
        extractor: From `load_content`; None for such a network.
        sounds: Of any length.

    Returns:
        (batch, positions, size), equally spaced in time: position i is centred i spacings after the first
        sample, and the last position is at the end.
    """
    if extractor is None:
        return encoder(sounds.mel)
    window = WINDOW_S * SAMPLING_RATE
    encode = _whisper if isinstance(encoder, WhisperEncoder) else _convolved
    with torch.no_grad():
        parts = [encode(encoder, extractor, part, sounds.mel) for part in sounds.samples.split(window, 1)]
    return torch.cat(parts, 1).to(sounds.mel.dtype)


def speaker(encoder: Any, extractor: Any, sounds: EncoderInput) -> torch.Tensor:
    """Speaker embeddings.

    Waveforms shorter than `SHORTEST_S` are repeated until they are as long.

    Args:
        encoder: From `load_speaker`, or a network that reads a mel spectrogram.
        extractor: From `load_speaker`; None for such a network.
        sounds: Of any length.

    Returns:
        Vectors of unit length, (batch, size).
    """
    if extractor is None:
        return encoder(sounds.mel)
    times = -(-round(SHORTEST_S * SAMPLING_RATE) // sounds.samples.shape[1])
    inputs = _extracted(encoder, extractor, sounds.samples.repeat(1, times), sounds.mel)
    with torch.no_grad():
        vectors = encoder(**inputs).embeddings
    return functional.normalize(vectors.float(), dim=1).to(sounds.mel.dtype)


def _extracted(
    encoder: Any, extractor: Any, samples: torch.Tensor, like: torch.Tensor, **options: Any
) -> dict[str, Any]:
    """A model's inputs, on the device of `like` and in the model's own precision."""
    rows: list[np.ndarray] = list(samples.float().numpy(force=True))
    inputs = extractor(rows, sampling_rate=SAMPLING_RATE, return_tensors="pt", **options)
    return {
        name: value.to(like.device, encoder.dtype if value.is_floating_point() else None)
        for name, value in inputs.items()
    }


def _whisper(encoder: Any, extractor: Any, samples: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Features (batch, positions, size) of a window or less, without those of its padding."""
    # On the CPU, the spectrogram of 30 s would take longer than the encoder on a GPU.
    features = _extracted(encoder, extractor, samples, like, device=str(like.device))["input_features"]
    positions = encoder(features).last_hidden_state
    step = WINDOW_S * SAMPLING_RATE // positions.shape[1]
    return positions[:, : samples.shape[1] // step + 1]


def _convolved(encoder: Any, extractor: Any, samples: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Like `_whisper`. Padding by half the receptive field centres the first position on the first sample."""
    step, reach = 1, 1
    for kernel, stride in zip(encoder.config.conv_kernel, encoder.config.conv_stride, strict=True):
        step, reach = step * stride, reach + (kernel - 1) * step
    values = _extracted(encoder, extractor, samples, like)["input_values"]
    positions = encoder(functional.pad(values, (reach // 2, reach - reach // 2))).last_hidden_state
    # A full window ends where the next one begins.
    return positions[:, : WINDOW_S * SAMPLING_RATE // step]

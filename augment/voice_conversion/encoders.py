"""What is said and who speaks, by models of `transformers`: Whisper, wav2vec2 and its kin, x-vectors.

They read samples, stay as they are (frozen, no gradient), and each has a feature extractor beside it; the
small encoders of `voice_conversion_model` read a mel spectrogram and have none. Whoever wants features
asks `content` and `speaker`, and need not know which is which.
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

WINDOW_S = 30
"""Whisper takes windows of this length; the others get long sounds in such windows too."""
SHORTEST_S = 0.5
"""A shorter sound is repeated until it is as long, before an x-vector is taken of it."""
CONVOLVING = ("wav2vec2", "hubert", "wavlm", "unispeech-sat")
"""Model types that read samples by convolutions."""


class WhisperContentEncoder(WhisperEncoder):
    """The encoder of a Whisper model by itself, so that no decoder is loaded and saved with it."""

    config_class = WhisperConfig


class Heard(NamedTuple):
    """Equally long sounds as encoders take them."""

    samples: torch.Tensor
    """At 16 kHz, on the CPU, (batch, samples). Looked at where there is a feature extractor."""
    mel: torch.Tensor
    """Normalised mel spectrogram, of the device and precision of the networks, (batch, frames, bands)."""


def load_content(name: str, setting: str = "content_encoder") -> tuple[PreTrainedModel, Any]:
    """A frozen content encoder and its feature extractor.

    Args:
        name: Hub id, or a directory, of a Whisper, wav2vec2, HuBERT or WavLM model.
        setting: That named it, for messages.

    Raises:
        UsageError: If it cannot be loaded or is no such model.
    """
    advice = "wanted a Hub id or directory of Whisper, wav2vec2, HuBERT or WavLM"
    source = Pretrained(setting=setting, name=name, advice=advice)
    kind = source.config().model_type
    if kind != "whisper" and kind not in CONVOLVING:
        raise UsageError(f"{setting}: {name!r} is a model of type {kind}; {advice}")
    model, extractor = _loaded(source, "AutoModel")
    return (_without_decoder(model) if kind == "whisper" else model), extractor


def _without_decoder(whole: Any) -> WhisperContentEncoder:
    encoder = WhisperContentEncoder(whole.config)
    encoder.load_state_dict(whole.encoder.state_dict())
    return encoder.eval().requires_grad_(False)


def load_speaker(name: str, setting: str = "speaker_encoder") -> tuple[PreTrainedModel, Any]:
    """A frozen x-vector model and its feature extractor.

    Args:
        name: Hub id, or a directory, of what `AutoModelForAudioXVector` loads.
        setting: That named it, for messages.

    Raises:
        UsageError: If it cannot be loaded, is no such model, or lacks the weights of one.
    """
    advice = "wanted a Hub id or directory of an x-vector model, such as microsoft/wavlm-base-plus-sv"
    return _loaded(Pretrained(setting=setting, name=name, advice=advice), "AutoModelForAudioXVector")


def _loaded(source: Pretrained, model_class: str) -> tuple[Any, Any]:
    extractor, model = source.load(processor="AutoFeatureExtractor", model=model_class)
    source.check_hearing(extractor, SAMPLING_RATE)
    return model, extractor


def size(encoder: Any) -> int:
    """How many numbers `content` gives a position, or `speaker` a sound, by this encoder."""
    names = ("xvector_output_dim",) if hasattr(encoder, "tdnn") else ("size", "hidden_size", "d_model")
    return next(found for name in names if (found := getattr(encoder.config, name, None)) is not None)


def content(encoder: Any, extractor: Any, heard: Heard) -> torch.Tensor:
    """What is said.

    Args:
        encoder: Of `load_content`, or a network that reads a mel spectrogram.
        extractor: Of `load_content`; None of such a network.
        heard: Of any length.

    Returns:
        (batch, positions, size), with a constant time between positions: position i is centred i times
        that time behind the first sample, and the last one lies at the sound's end.
    """
    if extractor is None:
        return encoder(heard.mel)
    window = WINDOW_S * SAMPLING_RATE
    read = _whisper if isinstance(encoder, WhisperEncoder) else _convolved
    with torch.no_grad():
        parts = [read(encoder, extractor, part, heard.mel) for part in heard.samples.split(window, 1)]
    return torch.cat(parts, 1).to(heard.mel.dtype)


def speaker(encoder: Any, extractor: Any, heard: Heard) -> torch.Tensor:
    """Who speaks.

    A sound shorter than `SHORTEST_S` is repeated until it is as long: the convolutions over time need it.

    Args:
        encoder: Of `load_speaker`, or a network that reads a mel spectrogram.
        extractor: Of `load_speaker`; None of such a network.
        heard: Of any length.

    Returns:
        Vectors of unit length, (batch, size).
    """
    if extractor is None:
        return encoder(heard.mel)
    times = -(-round(SHORTEST_S * SAMPLING_RATE) // heard.samples.shape[1])
    inputs = _extracted(encoder, extractor, heard.samples.repeat(1, times), heard.mel)
    with torch.no_grad():
        vectors = encoder(**inputs).embeddings
    return functional.normalize(vectors.float(), dim=1).to(heard.mel.dtype)


def _extracted(
    encoder: Any, extractor: Any, samples: torch.Tensor, like: torch.Tensor, **options: Any
) -> dict[str, Any]:
    """A model's inputs, on a tensor's device and in the model's own precision."""
    rows: list[np.ndarray] = list(samples.float().numpy(force=True))
    inputs = extractor(rows, sampling_rate=SAMPLING_RATE, return_tensors="pt", **options)
    return {
        name: value.to(like.device, encoder.dtype if value.is_floating_point() else None)
        for name, value in inputs.items()
    }


def _whisper(encoder: Any, extractor: Any, samples: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Positions (batch, positions, size) of a window or less: what stands for its padding is cut off."""
    # On the CPU, spectrograms of 30 s would take longer than the encoder on a GPU.
    features = _extracted(encoder, extractor, samples, like, device=str(like.device))["input_features"]
    positions = encoder(features).last_hidden_state
    step = WINDOW_S * SAMPLING_RATE // positions.shape[1]
    return positions[:, : samples.shape[1] // step + 1]


def _convolved(encoder: Any, extractor: Any, samples: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """As `_whisper`; padded by half the convolutions' reach, the first position is the first sample."""
    step, reach = 1, 1
    for kernel, stride in zip(encoder.config.conv_kernel, encoder.config.conv_stride, strict=True):
        step, reach = step * stride, reach + (kernel - 1) * step
    values = _extracted(encoder, extractor, samples, like)["input_values"]
    positions = encoder(functional.pad(values, (reach // 2, reach - reach // 2))).last_hidden_state
    # A full window ends where the next one begins.
    return positions[:, : WINDOW_S * SAMPLING_RATE // step]

"""The networks of the voice converter: content and speaker encoder, length regulator, transformer.

The structure follows Seed-VC: content features are resampled to the mel spectrogram's frames; a transformer
gets, frame by frame, the noisy mel spectrogram, the prompt's, the content, the pitch and the speaker, and
predicts the velocity of flow matching. Our changes: the content is computed from the spectral envelope, the
pitch enters as the harmonics of a prior mel spectrogram (the source's envelope on a pulse train), flow
matching generates the difference to this prior, and everything is small enough to ship.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn
from torch.nn import functional


class Condition(NamedTuple):
    """The conditions of the transformer; first the prompt's frames, then those to generate."""

    prompt: torch.Tensor
    """Mel spectrogram of the reference, zero after the prompt, (batch, frames, bands)."""
    content: torch.Tensor
    """Content features, (batch, frames, content_size)."""
    prior_mel: torch.Tensor
    """Mel spectrogram of the source's voice at the target pitch, (batch, frames, bands)."""
    prosody: torch.Tensor
    """Loudness, and 1 where voiced, (batch, frames, 2)."""
    speaker: torch.Tensor
    """Embedding of the target speaker, (batch, speaker_size)."""

    def without(self, dropped: torch.Tensor | None = None) -> Condition:
        """The condition set to zero for the `dropped` rows of the batch (batch,), or for all."""
        if dropped is None:
            dropped = torch.ones(len(self.speaker), dtype=torch.bool, device=self.speaker.device)
        rows = [part.masked_fill(dropped.view(-1, *[1] * (part.dim() - 1)), 0) for part in self]
        return Condition(*rows)


class ContentEncoder(ModelMixin, ConfigMixin):
    """Content features from a mel spectrogram, through a bottleneck that keeps little of the voice.

    The bottleneck is the first cepstral coefficients of each frame, which describe the spectral envelope but
    not the harmonics, minus their mean over time, which describes the timbre of the voice and its loudness.
    Residual convolutions follow.

    Args:
        bands: Of the mel spectrogram.
        coefficients: Number that is kept, without the first, which is the loudness.
        size: Of the features.
        layers: Number of convolutions.
    """

    @register_to_config
    def __init__(self, bands: int = 80, coefficients: int = 20, size: int = 128, layers: int = 3) -> None:
        super().__init__()
        self.register_buffer("cosines", _cosines(bands, coefficients), persistent=False)
        self.inp = nn.Conv1d(coefficients, size, 5, padding=2)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.GroupNorm(1, size), nn.SiLU(), nn.Conv1d(size, size, 5, padding=2))
            for _ in range(layers)
        )

    def forward(self, mel: torch.Tensor) -> torch.Tensor:
        """Features (batch, frames, size) of normalised mel spectrograms (batch, frames, bands)."""
        cepstrum = mel @ self.cosines.to(mel.dtype)
        hidden = self.inp((cepstrum - cepstrum.mean(1, keepdim=True)).transpose(1, 2))
        for block in self.blocks:
            hidden = hidden + block(hidden)
        return hidden.transpose(1, 2)


def _cosines(bands: int, coefficients: int) -> torch.Tensor:
    """Columns of the cosine transform after the constant one, (bands, coefficients)."""
    angles = (torch.arange(bands) + 0.5)[:, None] * torch.arange(1, coefficients + 1) * math.pi / bands
    return torch.cos(angles) * 4 / bands


class SpeakerEncoder(ModelMixin, ConfigMixin):
    """A speaker embedding: convolutions over a mel spectrogram, then mean and deviation over time."""

    @register_to_config
    def __init__(self, bands: int = 80, width: int = 96, size: int = 64) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Conv1d(channels, width, 3, padding=dilation, dilation=dilation)
            for channels, dilation in ((bands, 1), (width, 2), (width, 3))
        )
        self.out = nn.Linear(2 * width, size)

    def forward(self, mel: torch.Tensor) -> torch.Tensor:
        """Unit vectors (batch, size) of normalised mel spectrograms (batch, frames, bands)."""
        hidden = mel.transpose(1, 2)
        for layer in self.layers:
            hidden = functional.silu(layer(hidden))
        # The variance's floor keeps the gradient of the root finite for constant input.
        pooled = torch.cat([hidden.mean(2), (hidden.var(2, unbiased=False) + 1e-4).sqrt()], 1)
        return functional.normalize(self.out(pooled), dim=1)


class LengthRegulator(ModelMixin, ConfigMixin):
    """Content features at the mel spectrogram's frame rate."""

    @register_to_config
    def __init__(self, content_size: int = 128, size: int = 128, layers: int = 2) -> None:
        super().__init__()
        self.inp = nn.Linear(content_size, size)
        blocks: list[nn.Module] = []
        for _ in range(layers):
            blocks += [nn.Conv1d(size, size, 3, padding=1), nn.GroupNorm(1, size), nn.Mish()]
        self.convs = nn.Sequential(*blocks, nn.Conv1d(size, size, 1))

    def forward(self, content: torch.Tensor, frames: int) -> torch.Tensor:
        """Resample (batch, positions, content_size) to (batch, frames, size), by nearest position."""
        hidden = self.inp(content).transpose(1, 2)
        return self.convs(functional.interpolate(hidden, size=frames, mode="nearest")).transpose(1, 2)


class VoiceTransformer(ModelMixin, ConfigMixin):
    """A transformer over frames, conditioned on the flow's time by adaptive RMS norms.

    Args:
        bands: Of the mel spectrogram.
        content_size: Of the regulated content.
        speaker_size: Of the speaker vector.
        width: Of the hidden states; a multiple of twice `heads`.
        layers: Number of blocks; the second half gets the first half's states by long skips.
        heads: Number of attention heads.
        feedforward: Width of the SwiGLU.
        mel_mean: Mean of the log mel spectrograms that the model was trained on.
        mel_std: Their standard deviation.
        residual_std: Standard deviation of their differences to the priors.
    """

    @register_to_config
    def __init__(
        self,
        bands: int = 80,
        content_size: int = 128,
        speaker_size: int = 64,
        width: int = 128,
        layers: int = 4,
        heads: int = 4,
        feedforward: int = 256,
        mel_mean: float = -3.1,
        mel_std: float = 1.3,
        residual_std: float = 0.45,
    ) -> None:
        super().__init__()
        self.inp = nn.Linear(3 * bands + 2 + content_size + speaker_size, width)
        self.time = nn.Sequential(nn.Linear(128, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.blocks = nn.ModuleList(_Block(width, heads, feedforward) for _ in range(layers))
        self.skips = nn.ModuleList(nn.Linear(2 * width, width) for _ in range(layers // 2))
        self.norm = _AdaptiveNorm(width)
        self.out = nn.Linear(width, bands)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def normalised(self, mel: torch.Tensor) -> torch.Tensor:
        """A log mel spectrogram in the model's units."""
        return (mel - self.config.mel_mean) / self.config.mel_std

    def state(self, mel: torch.Tensor, prior: torch.Tensor) -> torch.Tensor:
        """A log mel spectrogram as a state of the flow: its scaled difference to a prior."""
        return (mel - prior) / self.config.residual_std

    def mel(self, state: torch.Tensor, prior: torch.Tensor) -> torch.Tensor:
        """The inverse of `state`."""
        return prior + state * self.config.residual_std

    def forward(self, noisy: torch.Tensor, time: torch.Tensor, condition: Condition) -> torch.Tensor:
        """The velocity (batch, frames, bands) of states `noisy` of the same shape at times (batch,)."""
        speaker = condition.speaker[:, None].expand(-1, noisy.shape[1], -1)
        hidden = self.inp(torch.cat([noisy, *condition[:4], speaker], 2))
        embedding = self.time(_time_features(time, 128))
        rotary = _rotary(noisy.shape[1], self.config.width // self.config.heads, noisy.device)
        skipped: list[torch.Tensor] = []
        for number, block in enumerate(self.blocks):
            depth = number - (len(self.blocks) - len(self.skips))
            if depth >= 0:
                hidden = self.skips[depth](torch.cat([hidden, skipped.pop()], 2))
            hidden = block(hidden, embedding, rotary)
            if number < len(self.skips):
                skipped.append(hidden)
        return _preconditioned(noisy, time, self.out(self.norm(hidden, embedding)))


def _preconditioned(noisy: torch.Tensor, time: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
    """The velocity from a network's output: the best linear prediction from the state, plus the rest.

    References:
        Karras et al. 2022, arXiv:2206.00364, section 5, derived by us for the straight path between noise
        and data that both have variance 1.
    """
    time = time[:, None, None]
    variance = time**2 + (1 - time) ** 2
    return (2 * time - 1) / variance * noisy + output / variance.sqrt()


class _Block(nn.Module):
    def __init__(self, width: int, heads: int, feedforward: int) -> None:
        super().__init__()
        self.attention_norm, self.feedforward_norm = _AdaptiveNorm(width), _AdaptiveNorm(width)
        self.attention = _Attention(width, heads)
        self.gate_and_value = nn.Linear(width, 2 * feedforward, bias=False)
        self.out = nn.Linear(feedforward, width, bias=False)

    def forward(self, hidden: torch.Tensor, time: torch.Tensor, rotary: torch.Tensor) -> torch.Tensor:
        hidden = hidden + self.attention(self.attention_norm(hidden, time), rotary)
        gate, value = self.gate_and_value(self.feedforward_norm(hidden, time)).chunk(2, -1)
        return hidden + self.out(functional.silu(gate) * value)


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.head_size = heads, width // heads
        self.queries_keys_values = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, hidden: torch.Tensor, rotary: torch.Tensor) -> torch.Tensor:
        batch, frames, width = hidden.shape
        # (batch, frames, 3 * width) -> 3 of (batch, heads, frames, head_size)
        split = self.queries_keys_values(hidden).view(batch, frames, 3, self.heads, self.head_size)
        queries, keys, values = split.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(
            _rotated(queries, rotary), _rotated(keys, rotary), values
        )
        return self.out(mixed.transpose(1, 2).reshape(batch, frames, width))


class _AdaptiveNorm(nn.Module):
    """RMS norm with scale and shift from the time embedding; initialised to ignore the time."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.modulation = nn.Linear(width, 2 * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, hidden: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        scale, shift = self.modulation(time)[:, None].chunk(2, -1)
        return functional.rms_norm(hidden, hidden.shape[-1:]) * (1 + scale) + shift


def _time_features(time: torch.Tensor, size: int) -> torch.Tensor:
    """Sines and cosines of times (batch,) in [0, 1], (batch, size)."""
    octaves = torch.arange(size // 2, device=time.device) * (-math.log(10_000) / (size // 2))
    angles = 1000 * time[:, None] * octaves.exp()
    return torch.cat([angles.sin(), angles.cos()], 1).to(time.dtype)


def _rotary(frames: int, size: int, device: torch.device) -> torch.Tensor:
    """Cosines and sines of rotary embeddings, (2, frames, size // 2)."""
    octaves = torch.arange(size // 2, device=device) * (-math.log(10_000) / (size // 2))
    angles = torch.arange(frames, device=device)[:, None] * octaves.exp()
    return torch.stack([angles.cos(), angles.sin()])


def _rotated(parts: torch.Tensor, rotary: torch.Tensor) -> torch.Tensor:
    """Apply rotary embeddings to queries or keys (batch, heads, frames, size)."""
    cos, sin = rotary.to(parts.dtype)
    first, second = parts.chunk(2, -1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], -1)

"""The networks of the voice converter: content and speaker encoder, length regulator, transformer.

The structure follows Seed-VC: content features are brought to the mel spectrogram's frames; a
transformer gets, frame by frame, the noisy and the prompt's mel spectrogram, the content, the pitch
and the speaker, and predicts the velocity of flow matching. Ours: the content is read from the
spectrum's envelope, the pitch enters as the harmonics of a draft (the source's envelope on a pulse
train), flow matching makes what the result differs by from the draft, and all is small enough to ship.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.embeddings import apply_rotary_emb, get_1d_rotary_pos_embed, get_timestep_embedding
from torch import nn
from torch.nn import functional
from torchaudio.functional import create_dct

# Cosines and sines of rotary embeddings, (frames, size of a head) each.
Turns = tuple[torch.Tensor, torch.Tensor]


class Condition(NamedTuple):
    """What steers the transformer, prompt frames first, then those to be made."""

    prompt: torch.Tensor
    """Mel spectrogram of the reference, zero behind the prompt, (batch, frames, bands)."""
    content: torch.Tensor
    """What is said, (batch, frames, content_size)."""
    draft: torch.Tensor
    """Mel spectrogram of the source's voice at the wanted pitch, (batch, frames, bands)."""
    prosody: torch.Tensor
    """Loudness, and 1 where voiced, (batch, frames, 2)."""
    speaker: torch.Tensor
    """Who is to speak, (batch, speaker_size)."""

    def without(self, dropped: torch.Tensor | None = None) -> Condition:
        """Zeros in place of everything, for the batch's `dropped` rows (batch,) or all."""
        if dropped is None:
            dropped = torch.ones(len(self.speaker), dtype=torch.bool, device=self.speaker.device)
        rows = [part.masked_fill(dropped.view(-1, *[1] * (part.dim() - 1)), 0) for part in self]
        return Condition(*rows)


class ContentEncoder(ModelMixin, ConfigMixin):
    """What is said, from a mel spectrogram through a bottleneck that holds little of the voice.

    The bottleneck: the first cepstral coefficients of each frame, which hold the envelope of the
    spectrum but not the harmonics, less their mean over time, which holds the colour of the voice and
    its loudness. Residual convolutions follow.

    Args:
        bands: Of the mel spectrogram.
        coefficients: That are kept, without the first, which is the loudness.
        size: Of the result.
        layers: Of convolutions.
    """

    @register_to_config
    def __init__(self, bands: int = 80, coefficients: int = 20, size: int = 128, layers: int = 3) -> None:
        super().__init__()
        # Columns of the cosine transform after the constant one, (bands, coefficients).
        cosines = create_dct(coefficients + 1, bands, None)[:, 1:] * 2 / bands
        self.register_buffer("cosines", cosines, persistent=False)
        self.inp = nn.Conv1d(coefficients, size, 5, padding=2)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.GroupNorm(1, size), nn.SiLU(), nn.Conv1d(size, size, 5, padding=2))
            for _ in range(layers)
        )

    def forward(self, mel: torch.Tensor) -> torch.Tensor:
        """(batch, frames, size) of normalised mel spectrograms (batch, frames, bands)."""
        cepstrum = mel @ self.cosines.to(mel.dtype)
        hidden = self.inp((cepstrum - cepstrum.mean(1, keepdim=True)).transpose(1, 2))
        for block in self.blocks:
            hidden = hidden + block(hidden)
        return hidden.transpose(1, 2)


class SpeakerEncoder(ModelMixin, ConfigMixin):
    """A vector of who speaks: convolutions over a mel spectrogram, then mean and spread over time."""

    @register_to_config
    def __init__(self, bands: int = 80, width: int = 96, size: int = 64) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Conv1d(channels, width, 3, padding=dilation, dilation=dilation)
            for channels, dilation in ((bands, 1), (width, 2), (width, 3))
        )
        self.out = nn.Linear(2 * width, size)

    def forward(self, mel: torch.Tensor) -> torch.Tensor:
        """Vectors (batch, size) of unit length of normalised mel spectrograms (batch, frames, bands)."""
        hidden = mel.transpose(1, 2)
        for layer in self.layers:
            hidden = functional.silu(layer(hidden))
        # The variance's floor keeps the gradient of the root finite on constant sounds.
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
        """(batch, frames, size) of (batch, positions, content_size), each frame from the nearest position."""
        hidden = self.inp(content).transpose(1, 2)
        return self.convs(functional.interpolate(hidden, size=frames, mode="nearest")).transpose(1, 2)


class VoiceTransformer(ModelMixin, ConfigMixin):
    """A transformer over frames, conditioned on the time of flow matching by adaptive RMS norms.

    Args:
        bands: Of the mel spectrogram.
        content_size: Of the regulated content.
        speaker_size: Of the speaker vector.
        width: Of the hidden states; a multiple of twice `heads`.
        layers: Of attention; the second half gets the first half's states by long skips.
        heads: Of attention.
        feedforward: Width of the SwiGLU.
        mel_mean: Of the log mel spectrograms that the model was trained on.
        mel_std: Their standard deviation.
        residual_std: Standard deviation of what they differ by from their drafts.
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

    def state(self, mel: torch.Tensor, draft: torch.Tensor) -> torch.Tensor:
        """A log mel spectrogram as flow matching makes it: what it differs by from a draft."""
        return (mel - draft) / self.config.residual_std

    def mel(self, state: torch.Tensor, draft: torch.Tensor) -> torch.Tensor:
        """The opposite of `state`."""
        return draft + state * self.config.residual_std

    def forward(self, noisy: torch.Tensor, time: torch.Tensor, condition: Condition) -> torch.Tensor:
        """The velocity (batch, frames, bands) of states like it at times (batch,)."""
        speaker = condition.speaker[:, None].expand(-1, noisy.shape[1], -1)
        hidden = self.inp(torch.cat([noisy, *condition[:4], speaker], 2))
        waves = get_timestep_embedding(time, 128, downscale_freq_shift=0, scale=1000)  # (batch, 128)
        at = self.time(waves.to(time.dtype))
        places = torch.arange(noisy.shape[1], device=noisy.device)
        turns = get_1d_rotary_pos_embed(
            self.config.width // self.config.heads, places, use_real=True, repeat_interleave_real=False
        )
        kept: list[torch.Tensor] = []
        for number, block in enumerate(self.blocks):
            depth = number - (len(self.blocks) - len(self.skips))
            if depth >= 0:
                hidden = self.skips[depth](torch.cat([hidden, kept.pop()], 2))
            hidden = block(hidden, at, turns)
            if number < len(self.skips):
                kept.append(hidden)
        return _preconditioned(noisy, time, self.out(self.norm(hidden, at)))


def _preconditioned(noisy: torch.Tensor, time: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
    """The velocity of a network's output: the best linear guess from the state alone, and the rest.

    References:
        Karras et al. 2022, arXiv:2206.00364, section 5, worked out by us for the straight way
        between noise and data that both have variance 1.
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

    def forward(self, hidden: torch.Tensor, at: torch.Tensor, turns: Turns) -> torch.Tensor:
        hidden = hidden + self.attention(self.attention_norm(hidden, at), turns)
        gate, value = self.gate_and_value(self.feedforward_norm(hidden, at)).chunk(2, -1)
        return hidden + self.out(functional.silu(gate) * value)


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.head_size = heads, width // heads
        self.queries_keys_values = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, hidden: torch.Tensor, turns: Turns) -> torch.Tensor:
        batch, frames, width = hidden.shape
        # (batch, frames, 3 * width) -> 3 of (batch, heads, frames, head_size)
        split = self.queries_keys_values(hidden).view(batch, frames, 3, self.heads, self.head_size)
        queries, keys, values = split.permute(2, 0, 3, 1, 4)
        queries, keys = (apply_rotary_emb(each, turns, use_real_unbind_dim=-2) for each in (queries, keys))
        mixed = functional.scaled_dot_product_attention(queries, keys, values)
        return self.out(mixed.transpose(1, 2).reshape(batch, frames, width))


class _AdaptiveNorm(nn.Module):
    """RMS norm with scale and shift from the time; at first without effect of the time."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.modulation = nn.Linear(width, 2 * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, hidden: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        scale, shift = self.modulation(at)[:, None].chunk(2, -1)
        return functional.rms_norm(hidden, hidden.shape[-1:]) * (1 + scale) + shift

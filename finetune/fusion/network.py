"""The fusion network: one encoder per modality, a gated cross-modal fusion, a joint head and unimodal heads.

    x_m -> standardize -> encoder -> Z_m, h_m       steps and their weighted sum, all of one width
    g_m = σ(W [h_t; h_m] + b)
    f   = LN(h_t + Σ_m g_m ⊙ P_m CrossAttn(h_t -> Z_m))
    ŷ   = head([f; h_t; h_a; h_v]),   ŷ_m = head_m(h_m)

where t is the anchor: text, or the first modality if there is no text. Published (arXiv:2605.28575) are the
fusion of text with the others by gates with residual injection, and the unimodal heads; the formulas and the
statistics and reconstruction heads are ours.

A clip may lack a modality: its encoder then sees only one learned step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from finetune.fusion.settings import NetworkSettings

# Standardized inputs are clamped to this: trackers that lose a face give values in the millions.
LARGEST_INPUT = 10.0


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """The input of a modality."""

    dimensions: int  # d of its frames
    stride: int  # frames that are averaged into one step


@dataclass(frozen=True, kw_only=True)
class Output:
    """The network's output for B clips; dicts are by modality."""

    prediction: torch.Tensor  # (B,)
    unimodal: dict[str, torch.Tensor]  # (B,)
    encoded: dict[str, tuple[torch.Tensor, torch.Tensor]]
    """The encoder's output: steps (B, 1 + S, width), and the weights (B, 1 + S) of their sum."""
    sequences: dict[str, torch.Tensor]
    """Z_m, (B, 1 + S, width), the input of the fusion; the first step is learned."""
    features: dict[str, torch.Tensor]  # h_m, (B, width)
    means: dict[str, torch.Tensor]
    """Predicted mean of the standardized input over time, (B, d)."""
    log_deviations: dict[str, torch.Tensor]
    """Predicted logarithm of its standard deviation, (B, d)."""
    standardised: dict[str, torch.Tensor]
    """The standardized input, (B, T, d), 0 at padding."""
    reconstruction_errors: dict[str, torch.Tensor]
    """Mean squared error of the steps' reconstruction, (B,); 0 without input."""


class Encoder(nn.Module):
    """Encodes a sequence of frames as steps of `width` and the weights of their sum."""

    def __init__(self, inputs: Inputs, settings: NetworkSettings) -> None:
        super().__init__()
        self.stride = inputs.stride
        self.project = nn.Sequential(nn.Linear(inputs.dimensions, settings.width), nn.GELU())
        self.first = nn.Parameter(torch.zeros(settings.width))
        layer = nn.TransformerEncoderLayer(
            settings.width,
            settings.heads,
            dim_feedforward=2 * settings.width,
            dropout=settings.dropout,
            batch_first=True,
            norm_first=True,
        )
        self.layers = nn.TransformerEncoder(
            layer, settings.layers, norm=nn.LayerNorm(settings.width), enable_nested_tensor=False
        )
        self.score = nn.Linear(settings.width, 1)

    def forward(
        self, values: torch.Tensor, mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Encode.

        Args:
            values: (B, T, d), 0 where the mask is false.
            mask: (B, T).

        Returns:
            Steps (B, 1 + S, width), their mask (B, 1 + S), and the weights (B, 1 + S) of their sum. The
            gradient of the weights does not pass through the tensor of steps that is returned.
        """
        frames, shown = averaged(self.project(values), mask, self.stride)
        frames = frames + positions(frames.shape[1], frames.shape[2], frames)
        first = self.first.expand(len(frames), 1, -1)
        steps = torch.cat([first, frames], dim=1)  # (B, 1 + S, width)
        shown = torch.cat([shown.new_ones(len(shown), 1), shown], dim=1)
        steps = self.layers(steps, src_key_padding_mask=~shown)
        scores = self.score(steps).squeeze(-1).masked_fill(~shown, -math.inf)
        return steps.view_as(steps), shown, scores.softmax(-1)


class GatedFusion(nn.Module):
    """Injects what the anchor attends to in each other modality into its feature, through a gate."""

    def __init__(self, others: list[str], settings: NetworkSettings) -> None:
        super().__init__()
        width = settings.width
        self.gated = settings.gate
        self.attention = nn.ModuleDict(
            {name: nn.MultiheadAttention(width, settings.heads, batch_first=True) for name in others}
        )
        self.project = nn.ModuleDict({name: nn.Linear(width, width) for name in others})
        self.gates = nn.ModuleDict({name: nn.Linear(2 * width, width) for name in others if settings.gate})
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(settings.dropout)

    def forward(
        self,
        anchor: torch.Tensor,
        features: Mapping[str, torch.Tensor],
        sequences: Mapping[str, torch.Tensor],
        masks: Mapping[str, torch.Tensor],
    ) -> torch.Tensor:
        """Fuse the anchor (B, width) with features (B, width) and sequences (B, S, width): (B, width)."""
        fused = anchor
        for name, attention in self.attention.items():
            attended, _ = attention(
                anchor[:, None],  # (B, 1, width)
                sequences[name],
                sequences[name],
                key_padding_mask=~masks[name],
                need_weights=False,
            )
            injected = self.dropout(self.project[name](attended.squeeze(1)))
            if self.gated:
                injected = injected * self.gates[name](torch.cat([anchor, features[name]], dim=-1)).sigmoid()
            fused = fused + injected
        return self.norm(fused)


class FusionNetwork(nn.Module):
    """Rates clips from any subset of modalities.

    Args:
        inputs: The modalities' inputs; the first modality is the anchor.
        settings: The size.
    """

    def __init__(self, inputs: Mapping[str, Inputs], settings: NetworkSettings) -> None:
        super().__init__()
        self.names = list(inputs)
        width = settings.width
        self.encoders = nn.ModuleDict({name: Encoder(value, settings) for name, value in inputs.items()})
        self.modality_scores = nn.Parameter(torch.zeros(len(self.names)))
        self.statistics = nn.ModuleDict(
            {name: nn.Linear(width, 2 * value.dimensions) for name, value in inputs.items()}
        )
        self.reconstruct = nn.ModuleDict(
            {name: nn.Linear(width, value.dimensions) for name, value in inputs.items()}
        )
        self.fusion = GatedFusion(self.names[1:], settings)
        self.head = _head((1 + len(self.names)) * width, settings)
        self.unimodal_heads = nn.ModuleDict({name: _head(width, settings) for name in self.names})
        for name, value in inputs.items():
            self.register_buffer(f"mean_{name}", torch.zeros(value.dimensions))
            self.register_buffer(f"deviation_{name}", torch.ones(value.dimensions))

    def set_standard(self, name: str, mean: torch.Tensor, deviation: torch.Tensor) -> None:
        """Set the training split's statistics of a modality, both (d,)."""
        self.get_buffer(f"mean_{name}").copy_(mean)
        self.get_buffer(f"deviation_{name}").copy_(deviation)

    def encoder_parameters(self) -> dict[str, list[nn.Parameter]]:
        """The parameters of each modality's encoder, to which balancing applies."""
        return {name: list(encoder.parameters()) for name, encoder in self.encoders.items()}

    def modality_weights(self) -> dict[str, float]:
        """The learned scale of each modality's feature, 1 on average."""
        weights = len(self.names) * self.modality_scores.detach().softmax(0)
        return dict(zip(self.names, weights.tolist(), strict=True))

    def forward(self, values: Mapping[str, torch.Tensor], masks: Mapping[str, torch.Tensor]) -> Output:
        """Rate clips.

        Args:
            values: Raw features by modality, (B, T, d).
            masks: (B, T); a row without any true entry lacks the modality.
        """
        standardised = {name: self._standardised(name, values[name], masks[name]) for name in self.names}
        encoded, sequences, shown, features = {}, {}, {}, {}
        weights = len(self.names) * self.modality_scores.softmax(0)
        for weight, name in zip(weights, self.names, strict=True):
            steps, shown[name], shares = self.encoders[name](standardised[name], masks[name])
            encoded[name] = (steps, shares)
            sequences[name] = weight * steps
            features[name] = (shares[..., None] * sequences[name]).sum(1)  # (B, width)
        anchor = features[self.names[0]]
        fused = self.fusion(anchor, features, sequences, shown)
        statistics = {name: self.statistics[name](features[name]).chunk(2, dim=-1) for name in self.names}
        return Output(
            prediction=self.head(torch.cat([fused, *features.values()], dim=-1)).squeeze(-1),
            unimodal={name: self.unimodal_heads[name](features[name]).squeeze(-1) for name in self.names},
            encoded=encoded,
            sequences=sequences,
            features=features,
            means={name: mean for name, (mean, _) in statistics.items()},
            log_deviations={name: log for name, (_, log) in statistics.items()},
            standardised=standardised,
            reconstruction_errors={
                name: self._reconstruction_error(name, sequences[name], standardised[name], masks[name])
                for name in self.names
            },
        )

    def _standardised(self, name: str, values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        standard = (values - self.get_buffer(f"mean_{name}")) / self.get_buffer(f"deviation_{name}")
        return standard.clamp(-LARGEST_INPUT, LARGEST_INPUT).masked_fill(~mask[..., None], 0)

    def _reconstruction_error(
        self, name: str, steps: torch.Tensor, standardised: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        encoder = self.encoders[name]
        assert isinstance(encoder, Encoder)
        target, shown = averaged(standardised, mask, encoder.stride)  # (B, S, d)
        squares = ((self.reconstruct[name](steps[:, 1:]) - target) ** 2).mean(-1)  # (B, S)
        return squares.masked_fill(~shown, 0).sum(1) / shown.sum(1).clamp_min(1)


def averaged(values: torch.Tensor, mask: torch.Tensor, stride: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Means over `stride` frames under the mask: (B, T, d) -> (B, S, d), and their mask (B, S)."""
    batch, frames, dimensions = values.shape
    missing = -frames % stride
    values = functional.pad(values.masked_fill(~mask[..., None], 0), (0, 0, 0, missing))
    counts = functional.pad(mask, (0, missing)).view(batch, -1, stride).sum(-1)  # (B, S)
    sums = values.view(batch, -1, stride, dimensions).sum(2)  # (B, S, d)
    return sums / counts.clamp_min(1)[..., None], counts > 0


def positions(steps: int, width: int, like: torch.Tensor) -> torch.Tensor:
    """Sinusoidal positions, (steps, width), with the device and type of `like`."""
    rates = torch.exp(torch.arange(0, width, 2, device=like.device) * (-math.log(10_000.0) / width))
    angles = torch.arange(steps, device=like.device)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=-1).to(like.dtype)


def _head(width: int, settings: NetworkSettings) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(width, settings.width),
        nn.GELU(),
        nn.Dropout(settings.dropout),
        nn.Linear(settings.width, 1),
    )

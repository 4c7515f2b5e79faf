"""The settings of the fusion model, the section `fusion` of a recipe."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from finetune.gradient_norms import ConflictSettings
from finetune.settings import Tracker
from pipelines.row import MODALITIES, Modality
from pipelines.settings import SEEDS

Balancing = Literal["conflict_penalty", "none", "ogm_ge", "cggm", "mmpareto", "constant"]
# Methods that score a modality by its unimodal head.
JUDGING: tuple[Balancing, ...] = ("ogm_ge", "cggm", "mmpareto")
SAMPLING_RATE = 16_000  # of the audio that features are extracted from


@dataclass(frozen=True, kw_only=True)
class ExtractSettings:
    """How features of a store's clips are extracted; unused for a feature pickle or file."""

    text: str = "words"
    """`words`, which are hashed, or the Hub id or folder of an encoder like BERT or DeBERTa."""
    text_revision: str | None = None
    """Commit or tag of the text encoder on the Hub; null for the newest."""
    audio: str = "log_mel"
    """`log_mel`, or the Hub id or folder of an encoder like WavLM, HuBERT or wav2vec2."""
    audio_revision: str | None = None
    """Commit or tag of the audio encoder on the Hub; null for the newest."""
    video: str = "edges"
    """`edges`, or the Hub id or folder of an encoder of images like CLIP, ViT or DINOv2."""
    video_revision: str | None = None
    """Commit or tag of the video encoder on the Hub; null for the newest."""
    word_dimensions: int = 128
    """Size of a word's vector; for `words`."""
    mel_bands: int = 64
    """Bands of the spectrum; for `log_mel`."""
    audio_fps: float = 25.0
    """Spectra per second, at most 16000; hidden states of a pre-trained encoder are averaged to this rate."""
    video_fps: float = 5.0
    """Frames per second."""
    frame_px: int = 64
    """The side that a frame is scaled to, a multiple of `cells`; for `edges`."""
    cells: int = 8
    """Cells per side in which edges are summed; for `edges`."""
    max_duration_s: float = 30.0
    """Later audio and video is left out; seconds."""
    batch_size: int = 32
    """Frames that a pre-trained encoder gets at a time."""
    device: Literal["auto", "cpu"] = "auto"
    """Device of pre-trained encoders; auto takes a GPU if there is one."""

    def __post_init__(self) -> None:
        numbers = ("word_dimensions", "mel_bands", "audio_fps", "video_fps", "cells", "max_duration_s")
        _check_above_0(self, *numbers, "batch_size")
        if not self.audio_fps <= SAMPLING_RATE:
            raise ValueError(
                f"audio_fps: got {self.audio_fps}; it takes at most {SAMPLING_RATE}, the sampling rate"
            )
        if self.frame_px < 2 * self.cells or self.frame_px % self.cells:
            raise ValueError(
                f"frame_px: got {self.frame_px}; it takes a multiple of cells ({self.cells}), twice or more"
            )


@dataclass(frozen=True, kw_only=True)
class NetworkSettings:
    """The size of the network."""

    width: int = 64
    """Size of every feature; an even multiple of `heads`."""
    heads: int = 4
    """Attention heads."""
    layers: int = 1
    """Transformer layers of each encoder, at least 1."""
    dropout: float = 0.2
    """In [0, 1)."""
    steps: int = 50
    """Long sequences are averaged to about this many steps before the encoder; at least 1."""
    gate: bool = True
    """Whether fusion is gated; otherwise every modality is injected in full."""

    def __post_init__(self) -> None:
        if self.heads < 1 or self.width < 2 or self.width % self.heads or self.width % 2:
            raise ValueError(
                f"width: got {self.width} with {self.heads} heads; it takes an even multiple of heads"
            )
        if self.layers < 1 or self.steps < 1:
            raise ValueError(f"layers, steps: got {self.layers}, {self.steps}; both take at least 1")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout: got {self.dropout}; it takes a value in [0, 1)")


@dataclass(frozen=True, kw_only=True)
class LossSettings:
    """Weights of the parts beside the task's own loss; 0 leaves a part out."""

    auxiliary: float = 0.1
    """The unimodal heads' losses."""
    reconstruction: float = 0.1
    """The error of reconstructing the inputs from the encoders' steps."""
    statistics: float = 0.1
    """The statistical loss."""
    diversity: float = 0.01
    """The similarity of the modalities' features."""

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value < 0:
                raise ValueError(f"{name}: got {value}; it takes a weight of at least 0")


@dataclass(frozen=True, kw_only=True)
class BalanceSettings:
    """The method that balances gradients between the modalities, and the methods' parameters."""

    method: Balancing = "conflict_penalty"
    """The method; the penalty is configured in the section `conflict`."""
    constant: float = 0.5
    """Factor of `constant` on the gradients of the first modality's encoder, in (0, 1]."""
    ogm_ge_alpha: float = 0.3
    """α of OGM-GE, above 0: how much slower a better modality's encoder becomes."""
    cggm_rate: float = 1.3
    """Factor of CGGM on all its factors, above 0."""
    mmpareto_gain: float = 1.5
    """γ of MMPareto, above 0: the factor on the length of gradients."""

    def __post_init__(self) -> None:
        _check_above_0(self, "ogm_ge_alpha", "cggm_rate", "mmpareto_gain")
        if not 0 < self.constant <= 1:
            raise ValueError(f"constant: got {self.constant}; it takes a value in (0, 1]")


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """How a network is trained."""

    epochs: int = 40
    """The maximum; the best epoch on valid is kept."""
    patience: int = 10
    """Epochs without a better MAE on valid after which training ends."""
    batch_size: int = 32
    """Clips in a micro-batch."""
    accumulation: int = 1
    """Micro-batches in an optimizer step."""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    """SGD has a momentum of 0.9. AdamW divides by the gradients' size, and so undoes a penalty that lasts."""
    learning_rate: float = 1e-3
    """The peak, after a warm-up over a tenth of the steps; then a cosine down to 0."""
    weight_decay: float = 1e-2
    """The optimizer's weight decay."""
    clip_norm: float = 1.0
    """The largest norm of the gradients, above 0."""
    precision: Literal["no", "bf16", "fp16"] = "no"
    """Mixed precision; fp16 needs a GPU, bf16 a CPU or a GPU that supports it (not V100 and T4)."""
    device: Literal["auto", "cpu"] = "auto"
    """auto takes a GPU if there is one."""
    trackers: tuple[Tracker, ...] = ()
    """Where epochs are reported beside the history: tensorboard, wandb, trackio."""

    def __post_init__(self) -> None:
        numbers = ("epochs", "patience", "batch_size", "accumulation", "learning_rate", "clip_norm")
        _check_above_0(self, *numbers)
        if self.weight_decay < 0:
            raise ValueError(f"weight_decay: got {self.weight_decay}; it takes at least 0")


@dataclass(frozen=True, kw_only=True)
class FusionConfig:
    """The fusion model."""

    modalities: tuple[Modality, ...] = MODALITIES
    """The modalities used, of text, audio and video; the others are fused into the first."""
    scale: Literal["mosi", "sims", "binary"] | None = None
    """The labels' scale; null takes the store's, for a pickle sims if it has unimodal labels, else mosi."""
    seeds: tuple[int, ...] = (1111, 1112, 1113, 1114, 1115)
    """One network is trained from each."""
    extract: ExtractSettings = field(default_factory=ExtractSettings)
    """How features of a store's clips are extracted."""
    feature_cache: str = "auto"
    """Where features of a store are cached: `auto` for OUT/features, `none`, or a folder that runs share."""
    network: NetworkSettings = field(default_factory=NetworkSettings)
    """The size of the network."""
    losses: LossSettings = field(default_factory=LossSettings)
    """Weights of the parts of the loss."""
    conflict: ConflictSettings = field(default_factory=ConflictSettings)
    """The conflict-aware penalty."""
    balance: BalanceSettings = field(default_factory=BalanceSettings)
    """The method that balances the modalities."""
    training: TrainingSettings = field(default_factory=TrainingSettings)
    """Epochs, batches, learning rate."""

    def __post_init__(self) -> None:
        if not self.modalities or len(set(self.modalities)) < len(self.modalities):
            raise ValueError(f"modalities: got {list(self.modalities)}; it takes one to three different ones")
        if not self.seeds or len({seed for seed in self.seeds if seed in SEEDS}) < len(self.seeds):
            raise ValueError(
                f"seeds: got {list(self.seeds)}; it takes one or more different numbers, 0 to 2**32 - 1"
            )
        if self.balance.method in JUDGING and not self.losses.auxiliary:
            raise ValueError(
                f"losses.auxiliary: got 0 with fusion.balance.method {self.balance.method}, which uses the"
                " unimodal heads that it trains; give it a weight above 0, or take another method"
            )


def _check_above_0(settings: Any, *names: str) -> None:
    for name in names:
        if getattr(settings, name) <= 0:
            raise ValueError(f"{name}: got {getattr(settings, name)}; it takes a value above 0")

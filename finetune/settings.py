"""The settings of the stage: section `finetune` of a recipe."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from finetune.gradient_norms import ConflictSettings
from pipelines.errors import UsageError
from pipelines.row import VARIANT_KINDS, Modality, VariantKind

RowLoss = Literal["l1", "l2", "huber"]
Arm = Literal["weighted", "uniform", "originals", "shuffled"]
BestBy = Literal[
    "none", "MAE", "Corr", "Has0_acc_2", "Has0_F1_score", "Non0_acc_2", "Non0_F1_score", "Mult_acc_2",
    "Mult_acc_3", "Mult_acc_5", "Mult_acc_7", "F1_score", "Accuracy", "Precision", "Recall",
]  # fmt: skip
Precision = Literal["auto", "float32", "bfloat16"]
HeadName = Literal["regression", "classes", "levels", "answer"]
HeadStart = Literal["ridge", "zero"]
Device = Literal["auto", "cpu", "cuda", "mps"]
Part = Literal["language", "projectors", "vision", "audio"]
Quantize = Literal["none", "nf4"]
Tracker = Literal["tensorboard", "wandb", "trackio"]
Attention = Literal["auto", "sdpa", "flash_attention_2", "eager"]


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig:
    """Stage 2: weighted LoRA of a multimodal model."""

    model: str = "embedded"
    """`embedded` for the small model that comes with the code, a Hub id such as
    Qwen/Qwen2.5-Omni-7B, or a directory. Also Qwen3-Omni, Qwen2.5-VL, Qwen3-VL and Qwen2-Audio, and any
    causal language model for text alone."""
    revision: str | None = None
    """Branch, tag or commit of a Hub model; pin a commit for results that can be repeated."""
    arm: Arm = "weighted"
    """weighted: each row counts as its weight says. uniform: each row counts 1. originals: variants
    are left out. shuffled: the variants' weights, dealt out to other variants."""
    kinds: tuple[VariantKind, ...] = VARIANT_KINDS
    """Kinds of variants that are trained on besides the originals: video, audio, both, classic."""
    best_by: BestBy = "none"
    """Keep the epoch that is best by this metric on the originals of the split valid, such as MAE or Corr;
    the metrics depend on the labels' scale, or the corpus. none: no validation, the last epoch is kept."""
    patience: int | None = None
    """End the training after so many epochs without a better `best_by`; null trains all epochs."""
    epochs: int = 8
    """Passes over the training rows."""
    batch_size: int = 8
    """Rows of a forward pass on one device."""
    accumulation: int = 1
    """Forward passes in an optimizer step on one device."""
    learning_rate: float = 1e-3
    """Peak learning rate of the adapter; linear warm-up, then cosine to 0."""
    head_learning_rate: float = 0.1
    """Peak learning rate of the head: about how far a step may move a prediction, in halves of the scale's
    range."""
    head: HeadName = "regression"
    """regression: a linear layer on the last token. classes: a linear layer with one output a class (MUStARD,
    MELD). levels: the expected value under the model's own probabilities of the digits. answer: the rating in
    writing; an answer that is no number counts as the middle of the scale, and is counted."""
    head_start: HeadStart = "zero"
    """zero: the head starts by predicting the middle of the scale. ridge: it starts as a ridge regression on
    the untuned model's last token, fitted on the training originals; use small learning rates then."""
    warmup: float = 0.1
    """Share of the steps until the learning rates reach their peaks, [0, 1)."""
    weight_decay: float = 0.0
    """Weight decay of adapter and head, at least 0."""
    max_grad_norm: float = 1.0
    """Gradients are clipped to this norm; 0 does not clip."""
    loss: RowLoss = "l1"
    """A row's own loss with the head regression, in units of half the scale's range: l1, l2 or huber. The
    other heads use cross-entropy."""
    conflict: ConflictSettings | None = None
    """Watch whether one of text, audio and video dominates the training, by the norms of the gradients at
    their tokens, and slow it down, as the fusion model's penalty does. null does not watch; `penalty: false`
    watches and changes nothing."""
    lora_rank: int = 16
    """Rank of the adapter."""
    lora_alpha: int = 32
    """Scaling of the adapter: alpha / rank."""
    lora_dropout: float = 0.0
    """Dropout in front of the adapter, [0, 1)."""
    adapt: tuple[Part, ...] = ("language",)
    """Parts that get an adapter: language, projectors (between towers and language model), vision, audio.
    The others stay frozen."""
    modalities: tuple[Modality, ...] | None = None
    """The modalities that the model is shown: text, audio, video; null for all that it reads. `[text]` is the
    text-only baseline. Each row must have one of them, and each of them must be in some row."""
    audio_in_video: bool | None = None
    """Position of a clip's audio in the prompt. true: among its frames, by time, which only Qwen2.5-Omni and
    Qwen3-Omni support. false: after the frames. null: as the model was trained; `embedded` was trained with
    false, the released omni models with true. It does not matter for rows without audio or video."""
    video_fps: float = 2.0
    """Frames a second that the model is shown; fewer if a clip would exceed `max_frames`."""
    max_frames: int = 16
    """Frames of a clip at most."""
    max_audio_s: float = 30.0
    """Seconds of audio at most; later audio is cut off."""
    max_pixels: int | None = None
    """Pixels of a frame at most, besides the model's own limit; null for that limit alone."""
    max_tokens: int | None = None
    """Tokens of a row at most. A longer row is shown with fewer frames, down to 2, then with less of its
    audio; its text is never cut. null sets no limit."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""
    precision: Precision = "auto"
    """Precision of the frozen model: auto is bfloat16 on a GPU that computes in it (not on V100 and T4) and
    float32 elsewhere. The adapter and the head are float32."""
    quantize: Quantize = "none"
    """nf4: the frozen language model's linear layers in 4 bits (QLoRA); needs daq-msa[qlora]."""
    attention: Attention = "auto"
    """Implementation of attention: auto leaves the choice to transformers. flash_attention_2 does not support
    float32."""
    device: Device = "auto"
    """The device. Under accelerate or torchrun each process uses its own GPU; a single process uses one. If
    accelerate is configured for the CPU, auto is the CPU."""
    tower_cache: str = "auto"
    """Where outputs of frozen towers are cached: a folder, which runs may share; auto for `towers` beside the
    model; none to run the towers at each step. Towers and projectors that are trained always run at each
    step."""
    cache_mb: int = 4096
    """Memory for encoded inputs, in MiB, so that a row is decoded, or read from the tower cache, once instead
    of once an epoch."""
    save_every: int = 50
    """Optimizer steps between checkpoints."""
    log_every: int = 5
    """Optimizer steps between log entries."""
    trackers: tuple[Tracker, ...] = ()
    """Where the log goes besides `log.jsonl`: tensorboard, wandb, trackio."""

    @property
    def towers_are_frozen(self) -> bool:
        """Whether the towers' outputs for a clip stay the same from step to step."""
        return set(self.adapt) <= {"language"}

    def __post_init__(self) -> None:
        for range_, (holds, names) in RANGES.items():
            for name in names.split():
                value = getattr(self, name)
                if value is not None and not holds(value):
                    raise ValueError(f"{name}: got {value}, takes {range_}")
        if self.head_start != "zero" and self.head != "regression":
            raise ValueError(f"head_start: got {self.head_start}, takes zero with this head")
        if self.patience is not None and self.best_by == "none":
            raise ValueError(f"patience: got {self.patience}, takes a best_by beside it")


# How a message names a range, its check, and the fields that it holds for unless they are None.
RANGES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "1 or more": (
        lambda value: value >= 1,
        "epochs patience batch_size accumulation lora_rank max_frames max_pixels max_tokens save_every"
        " log_every",
    ),
    "more than 0": (
        lambda value: value > 0,
        "learning_rate head_learning_rate video_fps max_audio_s lora_alpha",
    ),
    "0 or more, below 1": (lambda value: 0 <= value < 1, "warmup lora_dropout"),
    "0 or more": (lambda value: value >= 0, "weight_decay max_grad_norm cache_mb"),
    "one or more": (lambda chosen: len(chosen) > 0, "adapt modalities kinds"),
    "each once": (lambda chosen: len(chosen) == len(set(chosen)), "adapt modalities kinds trackers"),
}


def check_trackers(key: str, names: tuple[Tracker, ...]) -> None:
    """Refuse a tracker that is not installed, which accelerate would leave out.

    Raises:
        UsageError: With its name and the setting, `key`.
    """
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise UsageError(f"{key}: got {name}, which is not installed; pip install 'daq-msa[trackers]'")

"""The model that is fine-tuned: a frozen omni model, a LoRA adapter, a regression head on the last token.

`FAMILIES` says, for each `model_type` of a configuration, by which classes of transformers it is
loaded, how rows become its inputs, and where an adapter goes.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from finetune.inputs import Budget, OmniEncoder
from finetune.settings import FinetuneConfig, Modality, Part
from pipelines.errors import UsageError

EMBEDDED = "embedded"
CHECKPOINTS = Path(__file__).parent / "checkpoints"
HEAD_FILE = "head.safetensors"


@dataclass(frozen=True, kw_only=True)
class Family:
    """A kind of model."""

    model_class: str
    """In transformers."""
    processor_class: str
    encoder: type[OmniEncoder]
    adapted: dict[Part, str]
    """Regular expressions of the linear layers that get an adapter, by part."""


_LANGUAGE = r"model\.language_model\.layers\.\d+\.(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)"
_OMNI = Family(
    model_class="Qwen2_5OmniThinkerForConditionalGeneration",
    processor_class="Qwen2_5OmniProcessor",
    encoder=OmniEncoder,
    adapted={
        "language": _LANGUAGE,
        "vision": r"model\.visual\.(blocks\.\d+\.(attn\.(q|k|v|proj)|mlp\.\w+_proj)|merger\.mlp\.[02])",
        "audio": r"model\.audio_tower\.(layers\.\d+\.(self_attn\.\w+_proj|fc[12])|proj)",
    },
)
FAMILIES: dict[str, Family] = {
    "qwen2_5_omni": _OMNI,  # thinker and talker together, as on the Hub; the thinker is loaded
    "qwen2_5_omni_thinker": _OMNI,
}


@dataclass(frozen=True, kw_only=True)
class BaseModel:
    """A frozen model with what belongs to it."""

    name: str
    revision: str | None
    family: Family
    thinker: Any
    processor: Any

    def encoder(self, budget: Budget, modalities: Sequence[Modality]) -> OmniEncoder:
        """What makes rows into this model's inputs."""
        return self.family.encoder(self.processor, self.thinker.get_rope_index, budget, modalities)


class Regressor(nn.Module):
    """Predicts a label from the last token's hidden state.

    Args:
        thinker: The model with its adapter, a `PeftModel`.
        low: Lower end of the labels' scale.
        high: Upper end.
    """

    def __init__(self, thinker: Any, low: float, high: float) -> None:
        super().__init__()
        self.thinker = thinker
        self.middle, self.half_range = (low + high) / 2, (high - low) / 2
        self.head = nn.Linear(thinker.get_base_model().config.get_text_config().hidden_size, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, **inputs: torch.Tensor) -> torch.Tensor:
        """Predictions on the labels' scale, (B,), from the output of `finetune.inputs.collate`."""
        features = self.features(**inputs)
        with torch.autocast(features.device.type, enabled=False):
            # Over the width, so that a step of the head moves a prediction as far in any model.
            units = self.head(features / features.shape[1]).squeeze(-1)  # (B, width) -> (B,)
        return self.middle + self.half_range * units

    def features(self, **inputs: torch.Tensor) -> torch.Tensor:
        """The last token's hidden state, (B, width), float32."""
        # The model below the language-model head: a vocabulary of logits is not wanted.
        hidden = self.thinker.get_base_model().model(**inputs, use_cache=False).last_hidden_state
        return hidden[:, -1].float()

    def save(self, directory: Path) -> None:
        """Write adapter and head."""
        from safetensors.torch import save_file

        # Embeddings are never adapted; unless told so, peft asks the Hub about the base model's.
        self.thinker.save_pretrained(directory, save_embedding_layers=False)
        save_file(
            {name: value.contiguous() for name, value in self.head.state_dict().items()},
            directory / HEAD_FILE,
        )

    def load(self, directory: Path) -> None:
        """Take adapter and head from a directory that `save` wrote."""
        from peft import set_peft_model_state_dict
        from safetensors.torch import load_file

        device = str(self.head.weight.device)
        result: Any = set_peft_model_state_dict(
            self.thinker, load_file(directory / "adapter_model.safetensors", device=device)
        )
        assert not result.unexpected_keys, f"{directory}: not this adapter: {result.unexpected_keys[:3]}"
        self.head.load_state_dict(load_file(directory / HEAD_FILE, device=device))


def load_base(name: str, revision: str | None, *, dtype: torch.dtype, max_pixels: int | None) -> BaseModel:
    """Load a frozen model and its processor.

    Args:
        name: `embedded`, a Hub id, or a directory.
        revision: Of a Hub model.
        dtype: Of its parameters.
        max_pixels: Of a frame, at most; None for the processor's own limit.

    Raises:
        UsageError: If it cannot be found, or is of no known family.
    """
    import transformers

    if not sys.stderr.isatty():
        transformers.logging.disable_progress_bar()
    source = str(CHECKPOINTS / "thinker") if name == EMBEDDED else name
    try:
        model_type = transformers.AutoConfig.from_pretrained(source, revision=revision).model_type
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(
            f"finetune.model: {name!r} cannot be loaded ({reason}); take a Hub id or a folder"
        ) from error
    if model_type not in FAMILIES:
        raise UsageError(f"finetune.model: {name!r} is a {model_type}; takes {', '.join(FAMILIES)}")
    family = FAMILIES[model_type]
    processor = getattr(transformers, family.processor_class).from_pretrained(source, revision=revision)
    if max_pixels is not None:
        _limit_pixels(processor.video_processor, max_pixels)
    thinker = getattr(transformers, family.model_class).from_pretrained(
        source, revision=revision, dtype=dtype
    )
    thinker.requires_grad_(False)
    thinker.name_or_path = name  # the adapter names its base as the user did, not by a folder here
    return BaseModel(name=name, revision=revision, family=family, thinker=thinker, processor=processor)


def adapted(base: BaseModel, config: FinetuneConfig, low: float, high: float, *, seed: int) -> Regressor:
    """Put a fresh adapter and a fresh head on a model. Predicts the middle of the scale.

    Args:
        base: The model; it is changed.
        config: Rank, scaling, dropout and place of the adapter.
        low: Lower end of the labels' scale.
        high: Upper end.
        seed: Of the adapter's random half.
    """
    from peft import LoraConfig, get_peft_model

    lora = LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules="|".join(f"({base.family.adapted[part]})" for part in config.adapt),
        base_model_name_or_path=base.name,
        revision=base.revision,
    )
    if config.gradient_checkpointing:
        base.thinker.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        base.thinker.enable_input_require_grads()
    with torch.random.fork_rng(), warnings.catch_warnings():
        # peft asks a transformers model for a property that has a new name there.
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
        torch.manual_seed(seed)
        return Regressor(get_peft_model(base.thinker, lora), low, high)


def _limit_pixels(video_processor: Any, max_pixels: int) -> None:
    size = dict(video_processor.size)
    size["longest_edge"] = min(size["longest_edge"], max_pixels)
    size["shortest_edge"] = min(size["shortest_edge"], size["longest_edge"])
    video_processor.size = size

"""A LoRA adapter, on the layers that settings choose, and a head on a loaded model.

Which layers a family of models has, `finetune.model.families` says; `finetune.model.regressor` loads a saved
adapter.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import torch
from peft import LoraConfig, get_peft_model

from finetune.model.families import Family
from finetune.model.heads import Answer, Classes, Head, Levels, Regression, Scale
from finetune.model.loading import BaseModel
from finetune.model.parts import path_of
from finetune.model.regressor import SentimentModel
from finetune.settings import FinetuneConfig, Part
from pipelines.errors import UsageError, reason

_ALL_LINEAR = "all-linear"  # peft's name for all of them below the head
# The same in a model with experts, without names by which peft would find the experts.
_INNER = r".+\.(?!(?:gate|gate_proj|up_proj|down_proj|w[123])$)[^.]+"


def adapted(base: BaseModel, config: FinetuneConfig, scale: str, *, seed: int) -> SentimentModel:
    """Put a new adapter, its random half drawn from a seed, and a new head on a model, which is changed.

    Raises:
        UsageError: If the model lacks a part that is to be adapted.
    """
    lacking = [part for part in config.adapt if part not in base.family.adapted]
    if lacking:
        parts = ", ".join(base.family.adapted)
        raise UsageError(f"finetune.adapt: {base.name!r} has no {', '.join(lacking)}; takes {parts}")
    lora = LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules=adapter_targets(base.family, base.thinker, config.adapt),
        base_model_name_or_path=base.name,
        revision=base.revision,
    )
    if config.gradient_checkpointing:
        # transformers 5.24 renamed `gradient_checkpointing_enable`; by default neither is reentrant.
        enable = getattr(base.thinker, "activation_checkpointing_enable", None)
        (enable or base.thinker.gradient_checkpointing_enable)()
        base.thinker.enable_input_require_grads()
    # Without devices, each process would begin work on every GPU that it sees.
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # peft asks a transformers model for a property that has a new name there.
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
        torch.manual_seed(seed)
        try:
            model = get_peft_model(base.thinker, lora)
        except ValueError as error:  # of an architecture that peft does not adapt, such as Mamba
            raise UsageError(f"finetune.model: {base.name!r} takes no adapter ({reason(error)})") from error
        return SentimentModel(model, fresh_head(base, config, scale))


def adapter_targets(family: Family, model: Any, parts: Sequence[Part]) -> str | list[str]:
    """The layers of a model that get an adapter, in the form that peft takes.

    For models with experts this is a list of full names, because there peft reduces a pattern to the last
    parts of the names that it matches, which in a model with towers match there as well, and takes the former
    names of experts for the experts themselves.

    Raises:
        UsageError: If the model has no layers where the family has a part's.
    """
    patterns = [layer_pattern(family, model, part) for part in parts]
    linear = [name for name, layer in model.named_modules() if isinstance(layer, torch.nn.Linear)]
    for part, pattern in zip(parts, patterns, strict=True):
        if pattern != _ALL_LINEAR and not any(re.fullmatch(pattern, name) for name in linear):
            raise UsageError(
                f"finetune.adapt: got {part}, and transformers {version('transformers')} builds this model"
                f" without linear layers {pattern}; take another version of transformers, or other parts"
            )
    if not any(name.endswith(".experts") for name, _ in model.named_modules()):
        return "|".join(patterns)
    adapted = re.compile("|".join(_INNER if pattern == _ALL_LINEAR else pattern for pattern in patterns))
    return [name for name in linear if adapted.fullmatch(name)]


def layer_pattern(family: Family, model: Any, part: Part) -> str:
    """A part's layers in a model, for peft: a regular expression of full names, or `all-linear`."""
    if not family.adapted[part]:
        return _ALL_LINEAR
    paths = [(path_of(model, layers.part), layers.pattern) for layers in family.adapted[part]]
    return "|".join(rf"{re.escape(path)}\.({pattern})" for path, pattern in paths if path)


def fresh_head(base: BaseModel, config: FinetuneConfig, scale: str) -> Head:
    """The head of a configuration for a model, and for labels on a scale, a key of `SCALES`."""
    width, tokenizer = base.thinker.config.get_text_config().hidden_size, base.processor.tokenizer
    if config.head == "regression":
        return Regression(width, Scale(scale), config.loss)
    if config.head == "classes":
        return Classes(width, Scale(scale))
    return Levels(tokenizer, Scale(scale)) if config.head == "levels" else Answer(tokenizer, Scale(scale))

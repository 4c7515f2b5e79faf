"""A LoRA adapter and a head on a loaded model."""

from __future__ import annotations

import warnings

import torch
from peft import LoraConfig, get_peft_model

from finetune.model.families import adapter_targets
from finetune.model.heads import Answer, Classes, Head, Levels, Regression, Scale
from finetune.model.loading import BaseModel
from finetune.model.regressor import SentimentModel
from finetune.settings import FinetuneConfig
from pipelines.errors import UsageError, reason


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


def fresh_head(base: BaseModel, config: FinetuneConfig, scale: str) -> Head:
    """The head of a configuration for a model, and for labels on a scale, a key of `SCALES`."""
    width, tokenizer = base.thinker.config.get_text_config().hidden_size, base.processor.tokenizer
    if config.head == "regression":
        return Regression(width, Scale(scale), config.loss)
    if config.head == "classes":
        return Classes(width, Scale(scale))
    return Levels(tokenizer, Scale(scale)) if config.head == "levels" else Answer(tokenizer, Scale(scale))

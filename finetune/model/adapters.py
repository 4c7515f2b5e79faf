"""A LoRA adapter and a read-out on a loaded model."""

from __future__ import annotations

import warnings

import torch

from finetune.model.families import adapter_targets
from finetune.model.heads import Readout, build_readout
from finetune.model.loading import BaseModel
from finetune.model.regressor import Rater
from finetune.settings import FinetuneConfig
from pipelines.errors import UsageError, reason


def adapted(base: BaseModel, config: FinetuneConfig, scale: str, *, seed: int) -> Rater:
    """Put a fresh adapter and a fresh read-out on a model.

    Args:
        base: The model; it is changed.
        config: Rank, scaling, dropout and place of the adapter; the read-out.
        scale: Of the labels.
        seed: Of the adapter's random half.

    Raises:
        UsageError: If the model lacks a part that is to be adapted.
    """
    from peft import LoraConfig, get_peft_model

    lacking = [part for part in config.adapt if part not in base.family.adapted]
    if lacking:
        places = ", ".join(base.family.adapted)
        raise UsageError(f"finetune.adapt: {base.name!r} has no {', '.join(lacking)}; takes {places}")
    lora = LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules=adapter_targets(base.family, base.thinker, config.adapt),
        base_model_name_or_path=base.name,
        revision=base.revision,
    )
    if config.gradient_checkpointing:
        base.thinker.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
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
        return Rater(model, fresh_readout(base, config, scale))


def fresh_readout(base: BaseModel, config: FinetuneConfig, scale: str) -> Readout:
    """The read-out of a configuration for a model."""
    return build_readout(
        config.readout,
        width=base.thinker.config.get_text_config().hidden_size,
        scale=scale,
        row_loss=config.loss,
        tokenizer=base.processor.tokenizer,
    )

"""QLoRA: the frozen language model's linear layers in 4 bits, the adapter in full precision on top."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from finetune.model.parts import IN_TOWERS, is_in_towers
from finetune.settings import Quantize
from pipelines.device import has_bfloat16, pick
from pipelines.errors import UsageError

HEAD = "lm_head"
# Not quantized: the head, which is not used, and the towers, which are small and lose more precision.
KEPT = [HEAD, IN_TOWERS]


def quantization(quantize: Quantize) -> dict[str, Any]:
    """Arguments for `from_pretrained`.

    Raises:
        UsageError: If bitsandbytes is missing.

    References:
        Dettmers et al. 2023, arXiv:2305.14314: NormalFloat 4, its constants quantised once more.
    """
    if quantize == "none":
        return {}
    import torch
    from transformers import BitsAndBytesConfig

    if find_spec("bitsandbytes") is None:
        raise UsageError(f"finetune.quantize: {quantize} needs bitsandbytes; pip install 'daq-msa[qlora]'")
    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16 if has_bfloat16(pick("auto")) else torch.float32,
        llm_int8_skip_modules=KEPT,
    )
    return {"quantization_config": config}


def is_kept(name: str) -> bool:
    """Whether a linear layer of this full name is not quantized."""
    return name.endswith(HEAD) or is_in_towers(name)


def keep_trainable(model: Any) -> None:
    """Let gradients pass through 4-bit layers after they were used for predictions, also on a CPU.

    On some CPUs bitsandbytes permanently changes the layout of weights at the first prediction, and in that
    layout it computes no gradients.
    """
    for layer in model.modules():
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            layer.support_avx512bf16_for_cpu = False

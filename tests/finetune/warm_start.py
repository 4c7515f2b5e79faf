"""The real command on a model whose head and adapter are not at their zero start.

A fresh head and the adapter's second half are 0, so that no gradient would reach the first half:
comparisons of gradients need a model that has moved. Otherwise `python -m tests.finetune.warm_start`
is `python -m finetune`.
"""

from __future__ import annotations

from typing import Any

import torch

from finetune import __main__, run
from finetune.model import saved_model

fresh = saved_model.build


def build(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
    """As `finetune.model.saved_model.build`, with what is trained drawn from a seed of its own."""
    model, encoder = fresh(*args, **kwargs)
    generator = torch.Generator().manual_seed(0)
    for name, value in model.named_parameters():
        if value.requires_grad and "lora_A" not in name:
            scale = 1.0 if "head" in name else 0.02
            torch.nn.init.normal_(value, std=scale, generator=generator)
    return model, encoder


def main(argv: list[str]) -> None:
    """Run the command in this process."""
    run.build = build
    try:
        __main__.main(argv)
    finally:
        run.build = fresh


if __name__ == "__main__":
    from pipelines.errors import call

    call(main)

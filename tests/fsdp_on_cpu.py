"""`finetune` under accelerate's FSDP on a CPU: `accelerate launch --use_fsdp -m tests.fsdp_on_cpu`.

accelerate takes to FSDP on accelerators alone: for processes on a CPU its state (`AcceleratorState`) leaves
out the plugin that it was given. That check is stood in for here, by what accelerate does on a GPU, and
nothing else is: PyTorch's FSDP itself works on a CPU, over gloo.

Behind its training each process prints a line of JSON: the bytes that it holds of the language model's
layers, and in how many pieces parameters are.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from accelerate.state import AcceleratorState, DistributedType, PartialState
from torch.distributed.tensor import DTensor

from finetune import __main__, run
from finetune.model.parts import is_in_towers
from finetune.training.trainer import WeightedTrainer


def use_fsdp_on_cpu() -> None:
    """Let accelerate's state take a plugin for FSDP on a CPU, too."""
    plain = AcceleratorState.__init__

    def init(state: AcceleratorState, *args: Any, fsdp_plugin: Any = None, **settings: Any) -> None:
        plain(state, *args, fsdp_plugin=fsdp_plugin, **settings)
        if fsdp_plugin is not None and state.distributed_type == DistributedType.MULTI_CPU:
            state.distributed_type = DistributedType.FSDP
            state.fsdp_plugin = fsdp_plugin
            PartialState._shared_state["distributed_type"] = DistributedType.FSDP

    AcceleratorState.__init__ = init


def tell_what_is_held() -> None:
    """Let a training end with what a process then holds."""
    plain = run.train

    def train(trainer: WeightedTrainer, checkpoint: Path | None) -> None:
        plain(trainer, checkpoint)
        named = dict(trainer.sentiment_model.named_parameters())
        towers = [value for name, value in named.items() if is_in_towers(name)]
        layers = [value for name, value in named.items() if ".layers." in name and not is_in_towers(name)]
        told = {
            "all": sum(value.numel() * value.element_size() for value in layers),
            "held": held_bytes(layers),
            "trained_whole": sum(value.requires_grad and not isinstance(value, DTensor) for value in layers),
            "towers": len(towers),
            "towers_whole": sum(not isinstance(value, DTensor) for value in towers),
        }
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()

    run.train = train


def held_bytes(parameters: Iterable[torch.Tensor]) -> int:
    """The memory behind parameters, whatever part of it they are a view of."""
    local = [value.to_local() if isinstance(value, DTensor) else value for value in parameters]
    storages = {value.untyped_storage().data_ptr(): value.untyped_storage().nbytes() for value in local}
    return sum(storages.values())


if __name__ == "__main__":
    from pipelines.errors import call

    use_fsdp_on_cpu()
    tell_what_is_held()
    call(__main__.main)

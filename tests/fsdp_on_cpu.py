"""Starts `finetune` under accelerate's FSDP on a CPU, as `accelerate launch --use_fsdp -m tests.fsdp_on_cpu`.

accelerate takes to FSDP on accelerators alone: for processes on a CPU its state (`AcceleratorState`) leaves
out the plugin that it was given. That check is stood in for here, by what accelerate does on a GPU, and
nothing else is: PyTorch's FSDP itself works on a CPU, over gloo.
"""

from __future__ import annotations

from typing import Any

from accelerate.state import AcceleratorState, DistributedType, PartialState


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


if __name__ == "__main__":
    from finetune.__main__ import entry

    use_fsdp_on_cpu()
    entry()

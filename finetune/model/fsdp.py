"""A model that accelerate's FSDP, version 2, shards among the processes of a run.

The language model's layers are sharded, and with them the trained parameters: adapter and head. The towers
are not: each process calls them for its own clips whenever it needs them, while a sharded module answers only
when all processes call it together.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor

from finetune.model.families import known_family
from finetune.model.parts import IN_TOWERS
from pipelines.errors import UsageError

if TYPE_CHECKING:
    from accelerate import Accelerator

    from finetune.model.regressor import SentimentModel
    from finetune.settings import FinetuneConfig

# Where accelerate's launcher names the modules that are units.
LAYERS = "FSDP_TRANSFORMER_CLS_TO_WRAP"
# Methods beside `forward` that use sharded modules.
FORWARD_METHODS = ("features", "generated")


def check_fsdp(config: FinetuneConfig) -> None:
    """Refuse settings that do not work with accelerate's FSDP.

    Raises:
        UsageError: Naming the key of accelerate's configuration or of the recipe.
    """
    if not _is_on("ACCELERATE_USE_FSDP"):
        return
    version = os.environ.get("FSDP_VERSION", "1")
    refused = {
        f"accelerate: got fsdp_version: {version}; takes 2": version != "2",
        "accelerate: got fsdp_activation_checkpointing: true; takes false: set"
        " finetune.gradient_checkpointing: true": _is_on("FSDP_ACTIVATION_CHECKPOINTING"),
        "accelerate: got fsdp_offload_params: true; takes false, since ratings and towers are computed where"
        " the weights lie": _is_on("FSDP_OFFLOAD_PARAMS"),
        "accelerate: got fsdp_reshard_after_forward: false; takes true, since what a rating put together"
        " would be saved in place of the parts": not _is_on("FSDP_RESHARD_AFTER_FORWARD", "true"),
        "accelerate: got fsdp_auto_wrap_policy: SIZE_BASED_WRAP, which goes through the towers, too; takes"
        " TRANSFORMER_BASED_WRAP": os.environ.get("FSDP_AUTO_WRAP_POLICY", "").upper() == "SIZE_BASED_WRAP",
        f"accelerate: got fsdp_transformer_layer_cls_to_wrap: {os.environ.get(LAYERS)}; takes none: the"
        " language model's layers are found without it": bool(os.environ.get(LAYERS)),
        "accelerate: got fsdp_ignored_modules; takes none: the towers are left whole without it": bool(
            os.environ.get("FSDP_IGNORED_MODULES")
        ),
        f"finetune.quantize: got {config.quantize}, whose weights accelerate's FSDP cannot shard; take none,"
        " or launch with --multi_gpu": config.quantize != "none",
        f"finetune.adapt: got {', '.join(config.adapt)} under accelerate's FSDP; takes [language], since each"
        " process calls the towers at its own pace; take that, or launch with --multi_gpu": (
            not config.towers_are_frozen
        ),
    }
    for message, holds in refused.items():
        if holds:
            raise UsageError(message)


def load_in_every_process() -> None:
    """Let each process read all weights.

    By accelerate's default the first one does and passes them on while sharding, and what is not sharded
    stays empty in the others.
    """
    os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"


def shard(
    model: SentimentModel, optimizer: torch.optim.Optimizer, accelerator: Accelerator
) -> torch.optim.Optimizer:
    """Shard a model in place, as accelerate was configured.

    Returns:
        The optimizer, which must not have a state yet, prepared for the sharded parameters.
    """
    from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, register_fsdp_forward_method
    from torch.distributed.fsdp.wrap import transformer_auto_wrap_policy

    plugin: Any = accelerator.state.fsdp_plugin
    plugin.ignored_modules = IN_TOWERS
    plugin.cpu_ram_efficient_loading = False
    # Adapter, head and labels stay float32, as without FSDP; autocast does what it does there.
    plugin.mixed_precision_policy = MixedPrecisionPolicy()
    # Each layer of the language model is a unit, and nothing of the towers.
    layers = layers_of(known_family(model.base).decoder(model.base))
    plugin.auto_wrap_policy = transformer_auto_wrap_policy
    plugin.transformer_cls_names_to_wrap = sorted({type(layer).__name__ for layer in layers})
    _, prepared = accelerator.prepare(model, optimizer)
    assert isinstance(model, FSDPModule)
    # Otherwise the outermost part, which has the head, stays gathered after a rating, and what is loaded
    # into it then is lost.
    model.set_reshard_after_forward(True, recurse=False)
    for name in FORWARD_METHODS:
        register_fsdp_forward_method(model, name)
    return prepared


def prepare_once(accelerator: Accelerator) -> None:
    """Let an accelerator return objects that it has prepared already as they are.

    The Trainer prepares model and optimizer when it begins to train. accelerate would then look for the
    optimizer's parameters by their addresses, and all those of which a process has no part share one.
    """
    prepare = accelerator.prepare

    def prepared(*objects: Any, **settings: Any) -> Any:
        if all(getattr(item, "_is_accelerate_prepared", False) for item in objects):
            return objects if len(objects) > 1 else objects[0]
        return prepare(*objects, **settings)

    accelerator.prepare = prepared


def layers_of(decoder: torch.nn.Module) -> torch.nn.ModuleList:
    """The layers that are sharded, whatever their name: the decoder's longest list of modules."""
    lists = [module for module in decoder.modules() if isinstance(module, torch.nn.ModuleList)]
    return max(lists, key=len)


def gather(parameter: Tensor) -> Tensor:
    """A parameter in one piece; where it is sharded, all processes must call this."""
    value = parameter.detach()
    return value.full_tensor() if isinstance(value, DTensor) else value


def shard_like(parameter: Tensor, value: Tensor) -> Tensor:
    """A value on a parameter's device, in its type, and sharded as it is.

    Where the parameter is sharded, all processes must call this, and the first one's value counts.
    """
    value = value.to(parameter.device, parameter.dtype)
    if not isinstance(parameter, DTensor):
        return value
    return distribute_tensor(value, parameter.device_mesh, parameter.placements)


def _is_on(name: str, default: str = "false") -> bool:
    return os.environ.get(name, default).lower() in ("1", "true")

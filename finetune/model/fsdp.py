"""A model that accelerate's FSDP, version 2, cuts up among the processes of a run.

The language model's layers are cut up, and with them what is trained: adapter and head. The towers stay
whole: each process asks them about its own clips when it needs them, and what is cut up answers only when
all processes ask it together.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import torch

from finetune.model.families import known_family
from finetune.model.parts import IN_TOWERS
from pipelines.errors import UsageError

if TYPE_CHECKING:
    from accelerate import Accelerator

    from finetune.model.regressor import Rater
    from finetune.settings import FinetuneConfig

# Where accelerate's launcher says which modules are units.
LAYERS = "FSDP_TRANSFORMER_CLS_TO_WRAP"
# Methods beside `forward` that go through what is cut up.
ASKED = ("features", "generated")


def check_fsdp(config: FinetuneConfig) -> None:
    """Refuse what does not go together with accelerate's FSDP.

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
        f"finetune.quantize: got {config.quantize}, whose weights accelerate's FSDP cannot cut up; take none,"
        " or launch with --multi_gpu": config.quantize != "none",
        f"finetune.adapt: got {', '.join(config.adapt)} under accelerate's FSDP; takes [language], since each"
        " process asks the towers at its own pace; take that, or launch with --multi_gpu": (
            not config.towers_are_frozen
        ),
    }
    for message, holds in refused.items():
        if holds:
            raise UsageError(message)


def load_whole() -> None:
    """Let each process read all weights.

    By accelerate's default the first one does and hands them on as it cuts them up, and what is not cut up
    stays empty in the others.
    """
    os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"


def cut_up(rater: Rater, optimizer: torch.optim.Optimizer, accelerator: Accelerator) -> torch.optim.Optimizer:
    """Cut a model up in place, as accelerate was told to.

    Args:
        rater: Is changed.
        optimizer: Of its trained parameters, without a state yet.
        accelerator: Has the plugin for FSDP.

    Returns:
        The optimizer, prepared, of the parameters that are trained now.
    """
    from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, register_fsdp_forward_method

    plugin: Any = accelerator.state.fsdp_plugin
    plugin.ignored_modules = IN_TOWERS
    plugin.cpu_ram_efficient_loading = False
    # Adapter, head and labels stay float32, as without FSDP; autocast does what it does there.
    plugin.mixed_precision_policy = MixedPrecisionPolicy()
    _name_layers(plugin, rater)
    _, prepared = accelerator.prepare(rater, optimizer)
    assert isinstance(rater, FSDPModule)
    # Else the outermost part, the head in it, stays put together after a rating: what is then loaded
    # into it is lost.
    rater.set_reshard_after_forward(True, recurse=False)
    for name in ASKED:
        register_fsdp_forward_method(rater, name)
    return prepared


def prepare_once(accelerator: Accelerator) -> None:
    """Let an accelerator give back what it has prepared already.

    The Trainer prepares model and optimizer when it begins to train. accelerate would then look for the
    optimizer's parameters by their addresses, and all of which a process has no part have the same.
    """
    prepare = accelerator.prepare

    def prepared(*objects: Any, **settings: Any) -> Any:
        if all(getattr(item, "_is_accelerate_prepared", False) for item in objects):
            return objects if len(objects) > 1 else objects[0]
        return prepare(*objects, **settings)

    accelerator.prepare = prepared


def _name_layers(plugin: Any, rater: Rater) -> None:
    """Make each layer of the language model a unit, and nothing of the towers."""
    from torch.distributed.fsdp.wrap import transformer_auto_wrap_policy

    layers = layers_of(known_family(rater.base).decoder(rater.base))
    plugin.auto_wrap_policy = transformer_auto_wrap_policy
    plugin.transformer_cls_names_to_wrap = sorted({type(layer).__name__ for layer in layers})


def layers_of(decoder: torch.nn.Module) -> torch.nn.ModuleList:
    """The layers that are cut up, by whatever name: the decoder's longest list of modules."""
    lists = [module for module in decoder.modules() if isinstance(module, torch.nn.ModuleList)]
    return max(lists, key=len)


def whole(parameter: torch.Tensor) -> torch.Tensor:
    """A parameter in one piece; where it is cut up, all processes must ask."""
    from torch.distributed.tensor import DTensor

    value = parameter.detach()
    return value.full_tensor() if isinstance(value, DTensor) else value


def like(parameter: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """A value as a parameter holds its own: on its device, and cut up as it is.

    Where the parameter is cut up, all processes must ask, and the first one's value counts.
    """
    from torch.distributed.tensor import DTensor, distribute_tensor

    value = value.to(parameter.device, parameter.dtype)
    if not isinstance(parameter, DTensor):
        return value
    return distribute_tensor(value, parameter.device_mesh, parameter.placements)


def _is_on(name: str, default: str = "false") -> bool:
    return os.environ.get(name, default).lower() in ("1", "true")

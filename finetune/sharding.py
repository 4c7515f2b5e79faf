"""The frozen language model cut up among the processes of a run, by torch's `fully_shard` (FSDP2).

Each process holds its share of every layer's frozen weights, and a layer is put together when it is
computed. What is trained, adapter and head, stays whole in each process, and its gradients are averaged
by DDP as without: it is a hundredth of the model, and so optimizer, checkpoints and what is saved are
those of any other run. Towers and embeddings stay whole, too, since they are asked at each process' pace.

A forward pass is a meeting of all processes: they must make the same number of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from finetune.families import family_of
from finetune.settings import FinetuneConfig
from pipelines.errors import UsageError

if TYPE_CHECKING:
    from finetune.rater import Rater


def check_sharding(config: FinetuneConfig, processes: int) -> None:
    """Refuse what cannot be cut up.

    Raises:
        UsageError: With one process, with 4 bits, or where the towers are trained.
    """
    if not config.shard:
        return
    if processes < 2:
        raise UsageError(
            "finetune.shard: got true in a run of one process; it takes several:"
            " accelerate launch --multi_gpu"
        )
    if config.quantize != "none":
        raise UsageError(
            f"finetune.shard: got true with quantize: {config.quantize}, whose weights cannot be cut up;"
            " take one of the two"
        )
    if not config.towers_are_frozen:
        raise UsageError(
            f"finetune.shard: got true with adapt: {', '.join(config.adapt)}; it takes adapt: [language]:"
            " a batch without a picture or a sound would leave the others waiting in that tower"
        )


def shard(rater: Rater, device: torch.device, processes: int) -> None:
    """Cut the frozen weights of a model's decoder layers up among all processes.

    Args:
        rater: Is changed, and moves to the device as far as it is cut up.
        device: Of this process.
        processes: How many there are; the process group is up.
    """
    family = family_of(rater.base.config)
    assert family is not None, f"load_base takes no {rater.base.config.model_type}"
    decoder = family.decoder(rater.base)
    mesh = init_device_mesh(device.type, (processes,))
    whole = {value for value in decoder.parameters() if value.requires_grad}
    whole |= set(rater.base.get_input_embeddings().parameters())
    for layer in layers_of(decoder):
        fully_shard(layer, mesh=mesh, ignored_params=whole)
    fully_shard(decoder, mesh=mesh, ignored_params=whole)  # the root, so that the next layer comes ahead
    _leave_to_us(rater)


def layers_of(decoder: torch.nn.Module) -> list[torch.nn.Module]:
    """The layers that are cut up, by whatever name: the decoder's longest list of modules."""
    lists = [module for module in decoder.modules() if isinstance(module, torch.nn.ModuleList)]
    return list(max(lists, key=lambda modules: len(list(modules))))


def _leave_to_us(rater: Rater) -> None:
    """Tell DDP not to send round what is cut up."""
    cut = [name for name, value in rater.named_parameters() if hasattr(value, "placements")]
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(rater, cut)

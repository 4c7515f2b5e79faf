"""Communication between the processes of one training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

# Returns a tensor's sum over the processes that train together.
AllReduceSum = Callable[[torch.Tensor], torch.Tensor]
# The random states of the CPU and of the process' GPU.
RandomState = tuple[torch.Tensor, torch.Tensor | None]


def identity(value: torch.Tensor) -> torch.Tensor:
    """The sum over one process."""
    return value


def sum_in_place(tensors: Sequence[torch.Tensor], all_reduce_sum: AllReduceSum) -> None:
    """Replace each tensor by its sum over the processes, with one exchange for each dtype."""
    if all_reduce_sum is identity:
        return
    for dtype in {tensor.dtype for tensor in tensors}:
        same = [tensor for tensor in tensors if tensor.dtype == dtype]
        flat = all_reduce_sum(torch.cat([tensor.flatten() for tensor in same]))
        for tensor, summed in zip(same, flat.split([tensor.numel() for tensor in same]), strict=True):
            tensor.copy_(summed.view_as(tensor))


def gathered(value: Any) -> list[Any]:
    """The values of all processes, in their order."""
    from accelerate.utils import gather_object

    return list(gather_object([value]))


def random_state(device: torch.device) -> RandomState:
    """The state of this process' random generators."""
    return torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == "cuda" else None


def set_random_state(state: RandomState, device: torch.device) -> None:
    """Continue from a random state."""
    torch.set_rng_state(state[0])
    if device.type == "cuda" and state[1] is not None:
        torch.cuda.set_rng_state(state[1], device)

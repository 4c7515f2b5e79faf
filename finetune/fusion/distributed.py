"""What the processes of one training tell each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

# Of a tensor, its sum over the processes that train together.
Total = Callable[[torch.Tensor], torch.Tensor]
# Of the CPU and of the GPU that a process has.
RandomState = tuple[torch.Tensor, torch.Tensor | None]


def alone(value: torch.Tensor) -> torch.Tensor:
    """The sum over one process."""
    return value


def sum_in_place(tensors: Sequence[torch.Tensor], total: Total) -> None:
    """Put each tensor's sum over the processes in its place, by one exchange for all of a type."""
    if total is alone:
        return
    for kind in {tensor.dtype for tensor in tensors}:
        same = [tensor for tensor in tensors if tensor.dtype == kind]
        flat = total(torch.cat([tensor.flatten() for tensor in same]))
        for tensor, summed in zip(same, flat.split([tensor.numel() for tensor in same]), strict=True):
            tensor.copy_(summed.view_as(tensor))


def gathered(value: Any) -> list[Any]:
    """A value of each process, in their order."""
    from accelerate.utils import gather_object

    return list(gather_object([value]))


def random_state(device: torch.device) -> RandomState:
    """What this process draws next."""
    return torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == "cuda" else None


def set_random_state(state: RandomState, device: torch.device) -> None:
    """Draw on from a state."""
    torch.set_rng_state(state[0])
    if device.type == "cuda" and state[1] is not None:
        torch.cuda.set_rng_state(state[1], device)

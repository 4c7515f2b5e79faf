"""Where a stage computes: the device it was told, or the best it finds."""

from __future__ import annotations

import os
from typing import NamedTuple

from pipelines.errors import UsageError


class Share(NamedTuple):
    """One process among those that work on the same store."""

    rank: int
    processes: int

    def holds(self, digest: str) -> bool:
        """Whether this process does the work of a SHA-256 hex digest."""
        return int(digest[:16], 16) % self.processes == self.rank


def share() -> Share:
    """This process' share, from the environment that accelerate and torchrun set."""
    return Share(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))


def pick(device: str) -> str:
    """The torch device for a setting.

    Args:
        device: `auto` for the best there is (of several GPUs, the one of this process), or
            a torch device such as `cpu` or `cuda:1`.

    Raises:
        UsageError: If the device is not a torch device, or is not there.
    """
    import torch

    if device == "auto":
        if not torch.cuda.is_available():
            return "mps" if torch.backends.mps.is_available() else "cpu"
        return f"cuda:{int(os.environ.get('LOCAL_RANK', '0')) % torch.cuda.device_count()}"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"device: {device!r} cannot be used here ({reason}); take auto or cpu") from error
    return device


def leave_group() -> None:
    """End the talk between processes: threads of it that are still there when Python ends abort them."""
    from torch import distributed

    if distributed.is_initialized():
        distributed.destroy_process_group()

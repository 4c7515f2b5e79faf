"""Where a stage computes: the device it was told, or the best it finds."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from pipelines.errors import UsageError, reason

if TYPE_CHECKING:
    import torch

# NVIDIA's GPUs compute in bfloat16 from this compute capability on (Ampere).
BFLOAT16_CAPABILITY = 8
# What accelerate takes for true.
YES = ("1", "on", "t", "true", "y", "yes")


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

    Of several GPUs, `auto` and `cuda` take the one of this process. Where accelerate was told to compute on
    the CPU (`accelerate launch --cpu`, which sets ACCELERATE_USE_CPU), `auto` is the CPU.

    Args:
        device: `auto` for the best there is, or a torch device such as `cpu` or `cuda:1`.

    Raises:
        UsageError: If the device is not a torch device, is not there, or accelerate was told otherwise.
    """
    import torch

    if device == "auto":
        return _best()
    if device != "cpu" and cpu_is_wanted():
        raise UsageError(
            f"device: got {device!r}, and accelerate was told to compute on the CPU (--cpu, or"
            " ACCELERATE_USE_CPU in the environment); take auto or cpu, or launch without that"
        )
    if device == "cuda" and torch.cuda.is_available():
        return _own_gpu()
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(
            f"device: {device!r} cannot be used here ({reason(error)}); take auto or cpu"
        ) from error
    return device


def cpu_is_wanted() -> bool:
    """Whether accelerate was told to compute on the CPU."""
    return os.environ.get("ACCELERATE_USE_CPU", "").lower() in YES


def _best() -> str:
    import torch

    if cpu_is_wanted():
        return "cpu"
    if torch.cuda.is_available():
        return _own_gpu()
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _own_gpu() -> str:
    import torch

    return f"cuda:{int(os.environ.get('LOCAL_RANK', '0')) % torch.cuda.device_count()}"


def has_bfloat16(device: str) -> bool:
    """Whether a device computes in bfloat16; NVIDIA's GPUs before Ampere, such as V100 and T4, do not.

    Args:
        device: As `pick` gives it.
    """
    import torch

    if not device.startswith("cuda") or torch.version.hip:
        return True
    return torch.cuda.get_device_capability(device)[0] >= BFLOAT16_CAPABILITY


def check_bfloat16(key: str, device: str, instead: str) -> None:
    """Refuse a setting that asks for bfloat16 of a device without it, where it is emulated or fails.

    Args:
        key: The setting, as it is typed, with its value.
        device: As `pick` gives it.
        instead: What the setting takes there.

    Raises:
        UsageError: Naming both.
    """
    import torch

    if not has_bfloat16(device):
        name = torch.cuda.get_device_name(device)
        raise UsageError(f"{key}, and {device} ({name}) does not compute in bfloat16; take {instead}")


def summing_dtype(device: str | torch.device) -> torch.dtype:
    """The type for long sums on a device: float64, or float32 on MPS, which has no other."""
    import torch

    return torch.float32 if torch.device(device).type == "mps" else torch.float64


def join_group(device: str) -> None:
    """Let the processes of a launcher talk to each other, if there are several.

    Args:
        device: As `pick` gives it.
    """
    if share().processes > 1:
        from accelerate import PartialState

        PartialState(cpu=device == "cpu")


def leave_group() -> None:
    """End the talk between processes: threads of it that are still there when Python ends abort them."""
    from torch import distributed

    if distributed.is_initialized():
        distributed.destroy_process_group()

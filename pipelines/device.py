"""The device of a stage: the one in its settings, or the best available."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from pipelines.errors import UsageError, reason

if TYPE_CHECKING:
    import torch

# NVIDIA's GPUs compute in bfloat16 from this compute capability on (Ampere).
BFLOAT16_CAPABILITY = 8
# What accelerate accepts as true.
YES = ("1", "on", "t", "true", "y", "yes")


class Share(NamedTuple):
    """One of the processes that work on the same store."""

    rank: int
    processes: int

    def holds(self, digest: str) -> bool:
        """Whether the task of this SHA-256 hex digest is assigned to this process."""
        return self.rank_of(digest) == self.rank

    def rank_of(self, digest: str) -> int:
        """The process that the task of this digest is assigned to."""
        return int(digest[:16], 16) % self.processes


def share() -> Share:
    """This process' share, from the environment that accelerate and torchrun set."""
    return Share(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))


def pick(device: str) -> str:
    """The torch device for a setting.

    With several GPUs, `auto` and `cuda` take that of this process. If accelerate was told to compute on the
    CPU (`accelerate launch --cpu`, which sets ACCELERATE_USE_CPU), `auto` is the CPU.

    Args:
        device: `auto` for the best available, or a torch device such as `cpu` or `cuda:1`.

    Raises:
        UsageError: If the device is not a torch device, is not available, or accelerate was told otherwise.
    """
    import torch

    if device == "auto" and cpu_is_wanted():
        return "cpu"
    if device != "cpu" and cpu_is_wanted():
        raise UsageError(
            f"device: got {device!r}, and accelerate was told to compute on the CPU (--cpu, or"
            " ACCELERATE_USE_CPU in the environment); take auto or cpu, or launch without that"
        )
    if device in ("auto", "cuda") and torch.cuda.is_available():
        return f"cuda:{int(os.environ.get('LOCAL_RANK', '0')) % torch.cuda.device_count()}"
    if device == "auto":
        return "mps" if torch.backends.mps.is_available() else "cpu"
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


def has_bfloat16(device: str) -> bool:
    """Whether a device, as returned by `pick`, supports bfloat16; V100, T4 and older NVIDIA GPUs do not."""
    import torch

    if not device.startswith("cuda") or torch.version.hip:
        return True
    return torch.cuda.get_device_capability(device)[0] >= BFLOAT16_CAPABILITY


def check_bfloat16(key: str, device: str, instead: str) -> None:
    """Refuse bfloat16 on a device that does not support it, where it is emulated or fails.

    Args:
        key: The setting, as it is typed, with its value.
        device: As returned by `pick`.
        instead: The values that the setting can have on this device.

    Raises:
        UsageError: Naming setting and device.
    """
    import torch

    if not has_bfloat16(device):
        name = torch.cuda.get_device_name(device)
        raise UsageError(f"{key}, and {device} ({name}) does not compute in bfloat16; take {instead}")


def described(device: str) -> str:
    """A device, as returned by `pick`, for the record: of a GPU the name, and not the number."""
    import torch

    return f"cuda ({torch.cuda.get_device_name(device)})" if device.startswith("cuda") else device


def summing_dtype(device: str | torch.device) -> torch.dtype:
    """The dtype for long sums on a device: float64, or float32 on MPS, which has no float64."""
    import torch

    return torch.float32 if torch.device(device).type == "mps" else torch.float64


def join_group(device: str) -> None:
    """Initialize the process group if a launcher started several processes; `device` is that of `pick`."""
    if share().processes > 1:
        from accelerate import PartialState

        PartialState(cpu=device == "cpu")


def leave_group() -> None:
    """Destroy the process group: its threads would abort the process if they run when Python exits."""
    from torch import distributed

    if distributed.is_initialized():
        distributed.destroy_process_group()

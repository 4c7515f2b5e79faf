"""The most memory that this process took for a while, which psutil does not tell. Linux only."""

from __future__ import annotations

from pathlib import Path


def peak_bytes() -> int:
    """The most that was resident since `forget_peak`."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith("VmHWM:")))


def forget_peak() -> None:
    """Let Linux count from what there is now."""
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")

"""How much memory this process takes, as Linux counts it, in bytes. Linux only."""

from __future__ import annotations

from pathlib import Path


def held_bytes() -> int:
    """What is resident now."""
    return _entry(Path("/proc/self/status"), "VmRSS")


def peak_bytes() -> int:
    """The most that was resident since `forget_peak`."""
    return _entry(Path("/proc/self/status"), "VmHWM")


def forget_peak() -> None:
    """Let Linux count from what there is now."""
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def free_bytes() -> int:
    """What the machine can still give without swapping."""
    return _entry(Path("/proc/meminfo"), "MemAvailable")


def _entry(file: Path, name: str) -> int:
    lines = file.read_text(encoding="utf-8").splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith(f"{name}:")))

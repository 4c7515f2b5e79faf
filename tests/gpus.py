"""GPUs that are not there: what torch tells of them, for code that only asks."""

from __future__ import annotations

import pytest
import torch


def pretend_gpus(monkeypatch: pytest.MonkeyPatch, count: int, capability: tuple[int, int] = (9, 0)) -> None:
    """Let torch tell of so many GPUs of a compute capability; nothing can be computed on them."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: "Pretended")
    monkeypatch.setattr(torch.version, "hip", None)

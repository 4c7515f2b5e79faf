"""A long training takes no more memory than a short one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil
import pytest

from finetune.__main__ import main
from finetune.training.milestones import Milestones
from tests import tiny

STEPS, WARM = 2_000, 200
MOST_GROWTH_MB = 20.0


@pytest.mark.slow
def test_memory_does_not_grow(tiny_thinker: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between step 200 and step 2,000, with logging, validation and checkpoints on the way."""
    rows = [tiny.row(n) for n in range(20)] + [tiny.variant(n, 0.5) for n in range(20)]
    rows += [tiny.row(n, split) for split in ("valid", "test") for n in range(3)]
    settings = {
        "model": tiny_thinker,
        "batch_size": 1,
        "epochs": STEPS // 40,
        "best_by": "MAE",
        "lora_rank": 2,
    }
    given = [part for name, value in settings.items() for part in (f"--finetune.{name}", str(value))]
    memory = measured(monkeypatch)
    main(["--data", str(tiny.store(tmp_path / "store", rows)), "--out", str(tmp_path / "out"), *given])
    assert len(memory) == STEPS
    growth = max(memory[WARM:]) - memory[WARM - 1]
    print(f"{growth:.1f} MB more at most after step {WARM}; {memory[WARM - 1]:.0f} MB then")
    assert growth < MOST_GROWTH_MB


def measured(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Fills with the process' memory behind each step, in MB."""
    found: list[float] = []
    on_step_end, process = Milestones.on_step_end, psutil.Process()

    def measure(milestones: Milestones, *args: Any, **kwargs: Any) -> None:
        found.append(process.memory_info().rss / 1e6)
        on_step_end(milestones, *args, **kwargs)

    monkeypatch.setattr(Milestones, "on_step_end", measure)
    return found

"""The study: one run an arm and seed, none twice, and a table that says what the runs found."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import commands
from benchmarks.finetune import ablation
from pipelines.errors import RunError
from tests import tiny


@pytest.mark.slow
def test_every_arm_and_seed_runs_once_and_is_in_the_table(
    tiny_thinker: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [tiny.row(n) for n in range(4)] + [tiny.variant(n, 0.5) for n in range(4)]
    store = tiny.store(tmp_path / "store", rows + [tiny.row(n, "test") for n in range(3)])
    command = [
        "--data",
        str(store),
        "--out",
        str(tmp_path / "out"),
        "--arms",
        "originals",
        "--seeds",
        "1",
        "2",
    ]
    command += ["--finetune.model", str(tiny_thinker), "--finetune.epochs", "1", "--finetune.lora_rank", "2"]
    ablation.main(command)
    told = json.loads((tmp_path / "out" / "study.json").read_text())["arms"]["originals"]["after"]["MAE"]
    found = [
        json.loads((tmp_path / f"out/originals-{seed}/metrics.json").read_text())["test"]["after"]["MAE"]
        for seed in (1, 2)
    ]
    assert told == found
    assert f"{np.mean(found):.3f} ± {np.std(found, ddof=1):.3f}" in capsys.readouterr().out
    monkeypatch.setattr(
        commands.subprocess, "run", lambda *_, **__: pytest.fail("a finished run was done again")
    )
    ablation.main(command)


def test_a_metric_without_a_value_is_a_dash() -> None:
    figures = {"weighted": {"before": {"Corr": [None, 0.5]}, "after": {"Corr": [0.5, 0.7]}}}
    lines = ablation.markdown(figures, (1, 2)).splitlines()
    assert lines[2:4] == ["| weighted | before | – |", "| weighted | after | 0.600 ± 0.141 |"]


def test_a_run_that_fails_ends_the_study(tmp_path: Path) -> None:
    command = ["--data", str(tmp_path / "none"), "--out", str(tmp_path), "--arms", "weighted", "--seeds", "1"]
    with pytest.raises(RunError, match=r"weighted-1: the run failed"):
        ablation.main(command)

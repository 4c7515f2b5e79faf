"""The study: one run an arm and seed, none twice or of other settings, and a table of what the runs found."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.finetune import ablation
from pipelines.errors import RunError, UsageError
from tests import tiny


@pytest.mark.slow
def test_every_arm_and_seed_runs_once_and_is_in_the_table(
    tiny_thinker: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
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
    assert f"{np.mean(found):.3f} ± {np.std(found, ddof=1):.3f}" in capfd.readouterr().out
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("originals-*/*")}
    ablation.main(command)
    assert capfd.readouterr().out.count("nothing is left to do") == 2
    with pytest.raises(UsageError, match=r"originals-1: the run was refused"):
        ablation.main([*command, "--finetune.learning_rate", "0.1"])
    assert "learning_rate was" in capfd.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in written} == written


def test_a_metric_without_a_value_is_a_dash() -> None:
    figures = {"weighted": {"before": {"Corr": [None, 0.5]}, "after": {"Corr": [0.5, 0.7]}}}
    lines = ablation.markdown(figures, (1, 2)).splitlines()
    assert lines[2:4] == ["| weighted | before | – |", "| weighted | after | 0.600 ± 0.141 |"]


def test_a_finished_run_does_not_hide_an_unknown_setting(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    finished = tmp_path / "weighted-1"
    finished.mkdir()
    (finished / "model.json").write_text("{}")
    (finished / "metrics.json").write_text('{"test": {"before": {"MAE": 1.0}, "after": {"MAE": 1.0}}}')
    command = ["--data", str(tmp_path / "none"), "--out", str(tmp_path), "--arms", "weighted", "--seeds", "1"]
    with pytest.raises(UsageError, match=r"weighted-1: the run was refused, for the reason above$"):
        ablation.main([*command, "--finetune.nonsense", "1"])
    assert "finetune.nonsense" in capfd.readouterr().err


def test_a_seed_that_is_given_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^--seeds: got 1 1, takes different numbers$"):
        ablation.main(["--data", str(tmp_path), "--out", str(tmp_path), "--seeds", "1", "1"])


def test_an_option_that_is_no_setting_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"^--dry-run: no option of .*ablation and no setting of the section"
    ):
        ablation.main(["--data", str(tmp_path), "--out", str(tmp_path), "--dry-run"])


def test_a_run_that_fails_ends_the_study(tmp_path: Path) -> None:
    command = ["--data", str(tmp_path / "none"), "--out", str(tmp_path), "--arms", "weighted", "--seeds", "1"]
    with pytest.raises(RunError, match=r"weighted-1: the run failed"):
        ablation.main(command)

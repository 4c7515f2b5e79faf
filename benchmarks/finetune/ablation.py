"""Arms against each other over several seeds, each run by the command that users run.

    python -m benchmarks.finetune.ablation --data STORE --out DIR [--arms weighted text_only] [--seeds 1 ...]

Writes `study.json` and `study.md`: of each arm the test metrics' mean and standard deviation over the
seeds, before and after fine-tuning. Runs that are finished are not done again. Settings of the section
`finetune` follow as in `python -m finetune`, and hold for all arms.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.atomic import write_json, write_text
from pipelines.errors import RunError, call

# Settings that make an arm what it is.
ARMS: dict[str, tuple[str, ...]] = {
    "weighted": (),
    "uniform": ("--finetune.arm", "uniform"),
    "shuffled": ("--finetune.arm", "shuffled"),
    "originals": ("--finetune.arm", "originals"),
    "conflict_penalty": ("--finetune.conflict", "{}"),
    "text_only": ("--finetune.modalities", "[text]"),
    # Before: what a linear head of the untuned model can do.
    "ridge": (
        *("--finetune.head_start", "ridge", "--finetune.loss", "l2"),
        *("--finetune.learning_rate", "2e-4", "--finetune.head_learning_rate", "0.02"),
    ),
}
SEEDS = (1111, 1112, 1113, 1114, 1115)
SHOWN = ("MAE", "Corr", "Has0_acc_2", "Non0_acc_2", "Mult_acc_7")

Figures = dict[str, list[float]]
"""Values by the metric's name, a value a seed; NaN where a run's metric has none."""


def main(argv: list[str]) -> None:
    """Run what is missing and write the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.finetune.ablation", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, metavar="STORE")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    options, settings = parser.parse_known_args(argv)
    figures: dict[str, dict[str, Figures]] = {}
    for arm in options.arms:
        runs = [_run(options, arm, seed, settings) for seed in options.seeds]
        figures[arm] = {column: _gathered(runs, column) for column in ("before", "after")}
    command = (
        f"python -m benchmarks.finetune.ablation --arms {' '.join(options.arms)} {' '.join(settings)}".strip()
    )
    record = {"command": command, "seeds": options.seeds, "arms": figures}
    write_json(options.out / "study.json", record)
    text = table(figures, options.seeds)
    write_text(options.out / "study.md", text)
    print(text)


def _run(options: argparse.Namespace, arm: str, seed: int, settings: Sequence[str]) -> dict[str, Any]:
    """A run's test metrics, `before` and `after`."""
    out = options.out / f"{arm}-{seed}"
    if not (out / "model.json").exists():
        command = [sys.executable, "-m", "finetune", "--data", str(options.data), "--out", str(out)]
        command += ["--seed", str(seed), *ARMS[arm], *settings]
        if subprocess.run(command, check=False).returncode:
            raise RunError(f"{out}: the run failed, for the reason above; start the study again to go on")
    return json.loads((out / "metrics.json").read_text(encoding="utf-8"))["test"]


def _gathered(runs: Sequence[dict[str, Any]], column: str) -> Figures:
    return {
        name: [float("nan") if run[column][name] is None else run[column][name] for run in runs]
        for name in runs[0][column]
    }


def table(figures: dict[str, dict[str, Figures]], seeds: Sequence[int]) -> str:
    """A Markdown table: a row an arm and state, mean ± standard deviation over the seeds."""
    names = [name for name in SHOWN if name in next(iter(figures.values()))["after"]]
    lines = ["| arm | | " + " | ".join(names) + " |", "|---|---|" + "---|" * len(names)]
    for arm, states in figures.items():
        for state, values in states.items():
            lines.append(f"| {arm} | {state} | " + " | ".join(_cell(values[name]) for name in names) + " |")
    return "\n".join(lines) + f"\n\nMean ± standard deviation over {len(seeds)} seeds.\n"


def _cell(values: list[float]) -> str:
    if np.isnan(values).any():
        return "–"
    spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{spread}"


if __name__ == "__main__":
    call(main)

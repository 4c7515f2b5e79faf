"""Compares settings of fine-tuning ("arms") over several seeds, by runs of `python -m finetune`.

    python -m benchmarks.finetune.ablation --data STORE --out DIR [--arms weighted text_only] [--seeds 1 ...]

Writes `study.json` and `study.md` with the mean and standard deviation of each arm's test metrics over
the seeds, before and after fine-tuning. Finished runs are not repeated, and those of other settings or data
are refused. Further options are settings of the section `finetune` as in `python -m finetune`, for all arms.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

from benchmarks.commands import (
    ablation_parser,
    mean_and_deviation,
    parse_ablation,
    table,
    train,
    write_report,
)
from pipelines.errors import call

# The settings of each arm.
ARMS: dict[str, tuple[str, ...]] = {
    "weighted": (),
    "uniform": ("--finetune.arm", "uniform"),
    "shuffled": ("--finetune.arm", "shuffled"),
    "originals": ("--finetune.arm", "originals"),
    "conflict_penalty": ("--finetune.conflict", "{}"),
    "text_only": ("--finetune.modalities", "[text]"),
    # Its metrics before fine-tuning are those of a ridge regression on the untuned model.
    "ridge": (
        *("--finetune.head_start", "ridge", "--finetune.loss", "l2"),
        *("--finetune.learning_rate", "2e-4", "--finetune.head_learning_rate", "0.02"),
    ),
}
SHOWN = ("MAE", "Corr", "Has0_acc_2", "Non0_acc_2", "Mult_acc_7")

Figures = dict[str, list[float | None]]
"""Values by the metric's name, one per seed; None where a run has none."""


def main(argv: list[str]) -> None:
    """Run what is missing and write the table."""
    parser = ablation_parser("python -m benchmarks.finetune.ablation", __doc__, ARMS)
    options, settings = parse_ablation(parser, argv, "finetune")
    figures: dict[str, dict[str, Figures]] = {}
    for arm in options.arms:
        runs = [_run(options, arm, seed, settings) for seed in options.seeds]
        figures[arm] = {
            state: {name: [run[state][name] for run in runs] for name in runs[0][state]}
            for state in ("before", "after")
        }
    command = f"{parser.prog} --arms {' '.join([*options.arms, *settings])}"
    record = {"command": command, "seeds": options.seeds, "arms": figures}
    write_report(options.out, record, markdown(figures, options.seeds), name="study")


def _run(options: argparse.Namespace, arm: str, seed: int, settings: Sequence[str]) -> dict[str, Any]:
    """The test metrics of a run, `before` and `after`; trains if it is not finished."""
    out = options.out / f"{arm}-{seed}"
    arguments = ["--data", str(options.data), "--out", str(out), "--seed", str(seed)]
    train("finetune", [*arguments, *ARMS[arm], *settings], out)
    return json.loads((out / "metrics.json").read_text(encoding="utf-8"))["test"]


def markdown(figures: dict[str, dict[str, Figures]], seeds: Sequence[int]) -> str:
    """A table with a line for each arm before and after training."""
    names = [name for name in SHOWN if name in next(iter(figures.values()))["after"]]
    rows = [
        [arm, state, *(mean_and_deviation(values[name]) for name in names)]
        for arm, states in figures.items()
        for state, values in states.items()
    ]
    return f"{table(['arm', '', *names], rows)}\n\nMean ± standard deviation over {len(seeds)} seeds.\n"


if __name__ == "__main__":
    call(main)

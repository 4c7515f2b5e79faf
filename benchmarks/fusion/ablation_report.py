"""What a study found, as figures and as Markdown tables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.fusion.modality_drop import read_without

SHOWN = ("MAE", "Corr", "Has0_acc_2", "Non0_acc_2", "Mult_acc_2", "Mult_acc_5", "Mult_acc_7")

Figures = dict[str, list[float | None]]
"""Values by the metric's name, a value a seed; None where a seed has none."""


def figures_of(run: Path, seeds: Sequence[int]) -> dict[str, Any]:
    """Figures of an arm: `test`, `valid`, `conflict_rate`, `best_epoch`, and `without` some modalities."""
    found = [_metrics(run, seed) for seed in seeds]
    without = [read_without(run, seed) for seed in seeds]
    return {
        **{split: _columns([each[split] for each in found]) for split in ("test", "valid")},
        **{name: [each[name] for each in found] for name in ("conflict_rate", "best_epoch")},
        "without": {out: _columns([each[out] for each in without]) for out in without[0]},
    }


def _metrics(run: Path, seed: int) -> dict[str, Any]:
    return json.loads((run / f"seed-{seed}" / "metrics.json").read_text(encoding="utf-8"))


def _columns(rows: Sequence[Mapping[str, float | None]]) -> Figures:
    return {name: [row[name] for row in rows] for name in rows[0]}


def markdown(record: dict[str, Any]) -> str:
    """The study in words and tables."""
    arms, seeds = record["arms"], record["seeds"]
    parts = [
        f"`{record['command']}`",
        _arms_table(arms),
        f"Test split, mean ± standard deviation over {len(seeds)} seeds ({', '.join(map(str, seeds))})."
        " Conflicts: the share of steps whose largest ratio of norms is above the threshold, penalised or"
        " not.",
        "## With modalities left out",
        _without_table(arms),
        "MAE on test of the same networks, which were trained with all modalities.",
    ]
    if record["test"]:
        parts += [
            f"## {record['test']['arms'][0]} against {record['test']['arms'][1]}",
            *_test(record["test"]),
        ]
    return "\n\n".join([*parts, "![Ratios of gradient norms](ratios.svg)"]) + "\n"


def _arms_table(arms: Mapping[str, Any]) -> str:
    names = [name for name in SHOWN if name in next(iter(arms.values()))["test"]]
    rows = [
        [arm, *(cell(found["test"][name]) for name in names), cell(found["conflict_rate"])]
        for arm, found in arms.items()
    ]
    return _table(["arm", *names, "conflicts"], rows)


def _without_table(arms: Mapping[str, Any]) -> str:
    outs = list(next(iter(arms.values()))["without"])
    rows = [
        [arm, cell(found["test"]["MAE"]), *(cell(found["without"][out]["MAE"]) for out in outs)]
        for arm, found in arms.items()
    ]
    return _table(["arm", "none", *outs], rows)


def _test(found: dict[str, Any]) -> list[str]:
    rows_test = found["over_rows"]
    drawn = {"group": "groups of rows", "row": "rows"}[rows_test["unit"]]
    rows = []
    for name in [name for name in SHOWN if name in rows_test["metrics"]]:
        over_rows, over_seeds = rows_test["metrics"][name], found["over_seeds"][name]
        interval = f"{_signed(over_rows['low'])} to {_signed(over_rows['high'])}"
        rows.append(
            [
                name,
                *(_signed(over_seeds["difference"]), _number(over_seeds["t"]), _number(over_seeds["p"])),
                *(_signed(over_rows["difference"]), interval, _number(over_rows["p"])),
            ]
        )
    head = ["", "over seeds", "t", "p", "over rows", "95 % interval", "p"]
    return [
        _table(head, rows),
        "Differences, the first less the second. Over seeds: a paired t test, a seed a pair. Over rows: a"
        f" paired bootstrap of the ratings of all seeds pooled, {rows_test['resamples']} times"
        f" {rows_test['units']} {drawn}, each with its ratings from every seed. The p-values are not"
        " corrected for the number of metrics.",
    ]


def cell(values: Sequence[float | None]) -> str:
    """Mean ± standard deviation; a dash where a seed has no value."""
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return "–"
    spread = f" ± {np.std(known, ddof=1):.3f}" if len(known) > 1 else ""
    return f"{np.mean(known):.3f}{spread}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.3f}"

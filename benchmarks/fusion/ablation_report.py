"""Tables of `benchmarks.fusion.ablation`, and its figure of the ratios of gradient norms over the steps."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.commands import mean_and_deviation, table
from benchmarks.fusion.modality_drop import FILE
from pipelines.figures import BLUE, GREEN, RED, drawn, logarithmic

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHOWN = ("MAE", "Corr", "Has0_acc_2", "Non0_acc_2", "Mult_acc_2", "Mult_acc_5", "Mult_acc_7")

COLOURS = {"text": BLUE, "audio": RED, "video": GREEN}
LOWEST, HIGHEST = 0.1, 100.0
"""Largest range of a panel; other ratios lie at its edge."""

Figures = dict[str, list[float | None]]
"""Values by the metric's name, one per seed; None where a seed has none."""


def figures_of(run: Path, seeds: Sequence[int]) -> dict[str, Any]:
    """Figures of an arm: `test`, `valid`, `conflict_rate`, `best_epoch`, and `without` some modalities."""
    metrics, without = (
        [json.loads((run / f"seed-{seed}" / name).read_text(encoding="utf-8")) for seed in seeds]
        for name in ("metrics.json", FILE)
    )
    return {
        **{split: _columns([each[split] for each in metrics]) for split in ("test", "valid")},
        **{name: [each[name] for each in metrics] for name in ("conflict_rate", "best_epoch")},
        "without": {out: _columns([each[out] for each in without]) for out in without[0]},
    }


def _columns(rows: Sequence[Mapping[str, float | None]]) -> Figures:
    return {name: [row[name] for row in rows] for name in rows[0]}


def markdown(record: dict[str, Any]) -> str:
    """The study as Markdown."""
    arms, seeds = record["arms"], record["seeds"]
    first = next(iter(arms.values()))
    names, outs = [name for name in SHOWN if name in first["test"]], list(first["without"])
    metrics, without = [], []
    for arm, figures in arms.items():
        values = [figures["test"][name] for name in names]
        metrics.append([arm, *map(mean_and_deviation, [*values, figures["conflict_rate"]])])
        values = [figures["test"]["MAE"], *(figures["without"][out]["MAE"] for out in outs)]
        without.append([arm, *map(mean_and_deviation, values)])
    parts = [
        f"`{record['command']}`",
        table(["arm", *names, "conflicts"], metrics),
        f"Test split, mean ± standard deviation over {len(seeds)} seeds ({', '.join(map(str, seeds))})."
        " Conflicts: the share of steps whose largest ratio of norms is above the threshold, penalised or"
        " not.",
        "## With modalities left out",
        table(["arm", "none", *outs], without),
        "MAE on test of the same networks, which were trained with all modalities.",
    ]
    if record["test"]:
        parts += [
            f"## {record['test']['arms'][0]} against {record['test']['arms'][1]}",
            *_comparison(record["test"]),
        ]
    return "\n\n".join([*parts, "![Ratios of gradient norms](ratios.svg)"]) + "\n"


def _comparison(test: dict[str, Any]) -> list[str]:
    bootstrap = test["over_rows"]
    units = {"group": "groups of rows", "row": "rows"}[bootstrap["unit"]]
    rows = []
    for name in [name for name in SHOWN if name in bootstrap["metrics"]]:
        over_rows, over_seeds = bootstrap["metrics"][name], test["over_seeds"][name]
        interval = f"{_number(over_rows['low'])} to {_number(over_rows['high'])}"
        t, *p = (_number(value, ".3f") for value in (over_seeds["t"], over_seeds["p"], over_rows["p"]))
        differences = [_number(each["difference"]) for each in (over_seeds, over_rows)]
        rows.append([name, differences[0], t, p[0], differences[1], interval, p[1]])
    head = ["", "over seeds", "t", "p", "over rows", "95 % interval", "p"]
    return [
        table(head, rows),
        "Differences, the first minus the second. Over seeds: a paired t test, one pair per seed. Over rows:"
        f" a paired bootstrap of the ratings of all seeds pooled, {bootstrap['resamples']} times"
        f" {bootstrap['units']} {units}, each with its ratings from every seed. The p-values are not"
        " corrected for the number of metrics.",
    ]


def _number(value: float | None, form: str = "+.3f") -> str:
    return "–" if value is None else f"{value:{form}}"


def plot(path: Path, runs: Mapping[str, Path], seed: int) -> None:
    """Draw a panel for one seed of each run, as an SVG."""
    with drawn(path, len(runs), columns=1, width=9.5, height=2.3) as axes:
        for ax, (arm, run) in zip(axes, runs.items(), strict=True):
            draw(ax, **read_steps(arm, run, seed))


def read_steps(arm: str, run: Path, seed: int) -> dict[str, Any]:
    """The arguments of `draw` for a seed of a run."""
    from pyarrow import parquet

    config = json.loads((run / "config.json").read_text(encoding="utf-8"))["config"]
    columns = parquet.read_table(run / f"seed-{seed}" / "steps.parquet").to_pydict()
    rate = sum(columns["conflict"]) / len(columns["conflict"])
    return {
        "title": f"{arm}, seed {seed}: conflicts in {rate:.0%} of {len(columns['conflict'])} steps",
        "ratios": {name[6:]: values for name, values in columns.items() if name.startswith("ratio_")},
        "conflicts": columns["conflict"],
        "threshold": config["conflict"]["threshold"],
    }


def draw(
    ax: Axes, *, title: str, ratios: dict[str, list[float]], conflicts: list[bool], threshold: float
) -> None:
    """Draw the ratio of each modality, the threshold, and a mark for each conflict.

    The axis covers all finite ratios and the threshold, within `LOWEST` and `HIGHEST`.
    """
    logarithmic(ax)
    values = np.array([*ratios.values()], dtype=np.float64)
    known = np.append(values[np.isfinite(values) & (values > 0)], threshold)
    low, high = np.clip([known.min(), known.max()], LOWEST, HIGHEST).tolist()
    low, high = low / 1.2, high * 1.2
    steps = np.flatnonzero(conflicts)
    marks = np.tile([low, high, np.nan], len(steps))  # one line with gaps is a far smaller file
    ax.plot(np.repeat(steps, 3), marks, color="#b0b0b0", alpha=0.6, linewidth=1, label="conflict")
    for name, curve in ratios.items():
        ax.plot(np.clip(curve, low, high), color=COLOURS.get(name, "black"), linewidth=1, label=name)
    ax.axhline(threshold, color="black", linestyle="--", linewidth=1, label="threshold")
    ax.set_ylim(low, high)
    ax.set_xlim(0, max(1, len(conflicts) - 1))
    ax.locator_params(axis="x", integer=True)
    ax.set_xlabel("step", fontsize=8)
    ax.set_title(title, fontsize=9, loc="left")
    ax.legend(fontsize=7, frameon=False, ncols=5, loc="lower right", bbox_to_anchor=(1, 1))

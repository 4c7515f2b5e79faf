"""Draws the ratios of gradient norms over the steps of runs, with conflicts marked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipelines.figures import BLUE, GREEN, RED, drawn, logarithmic

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {"text": BLUE, "audio": RED, "video": GREEN}
LOWEST, HIGHEST = 0.1, 100.0
"""Largest range of a panel; other ratios lie at its edge."""


@dataclass(frozen=True, kw_only=True)
class Course:
    """The steps of one training."""

    title: str
    ratios: dict[str, list[float]]
    """By modality, one per step."""
    conflicts: list[bool]
    """One per step."""
    threshold: float


def plot(path: Path, runs: Mapping[str, Path], seed: int) -> None:
    """Draw a panel for one seed of each run, as an SVG."""
    with drawn(path, len(runs), columns=1, width=9.5, height=2.3) as axes:
        for ax, (arm, run) in zip(axes, runs.items(), strict=True):
            draw(ax, read_course(arm, run, seed))


def read_course(arm: str, run: Path, seed: int) -> Course:
    """Read the steps of a seed of a run."""
    from pyarrow import parquet

    config = json.loads((run / "config.json").read_text(encoding="utf-8"))["config"]
    columns = parquet.read_table(run / f"seed-{seed}" / "steps.parquet").to_pydict()
    rate = sum(columns["conflict"]) / len(columns["conflict"])
    return Course(
        title=f"{arm}, seed {seed}: conflicts in {rate:.0%} of {len(columns['conflict'])} steps",
        ratios={name[6:]: values for name, values in columns.items() if name.startswith("ratio_")},
        conflicts=columns["conflict"],
        threshold=config["conflict"]["threshold"],
    )


def draw(ax: Axes, course: Course) -> None:
    """Draw the ratio of each modality, the threshold, and a mark for each conflict."""
    logarithmic(ax)
    low, high = _range(course)
    steps = np.flatnonzero(course.conflicts)
    marks = np.tile([low, high, np.nan], len(steps))  # one line with gaps is a far smaller file
    ax.plot(np.repeat(steps, 3), marks, color="#b0b0b0", alpha=0.6, linewidth=1, label="conflict")
    for name, values in course.ratios.items():
        ax.plot(np.clip(values, low, high), color=COLOURS.get(name, "black"), linewidth=1, label=name)
    ax.axhline(course.threshold, color="black", linestyle="--", linewidth=1, label="threshold")
    ax.set_ylim(low, high)
    ax.set_xlim(0, max(1, len(course.conflicts) - 1))
    ax.locator_params(axis="x", integer=True)
    ax.set_xlabel("step", fontsize=8)
    ax.set_title(course.title, fontsize=9, loc="left")
    ax.legend(fontsize=7, frameon=False, ncols=5, loc="lower right", bbox_to_anchor=(1, 1))


def _range(course: Course) -> tuple[float, float]:
    """A little more than the range of all finite ratios and the threshold, within `LOWEST` and `HIGHEST`."""
    ratios = np.array([*course.ratios.values()], dtype=np.float64)
    known = np.append(ratios[np.isfinite(ratios) & (ratios > 0)], course.threshold)
    low, high = np.clip([known.min(), known.max()], LOWEST, HIGHEST)
    return float(low) / 1.2, float(high) * 1.2

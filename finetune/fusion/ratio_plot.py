"""Ratios of gradient norms over the steps of runs, with conflicts marked, as an SVG.

Written out by hand: the picture is a few lines, and needs no plotting library to be installed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path

WIDTH, HEIGHT, LEFT, TOP, GAP = 860, 150, 52, 30, 44  # pixels: of a panel, and around it
COLOURS = {"text": "#0072b2", "audio": "#d55e00", "video": "#009e73"}  # told apart by the colour-blind too
CONFLICT = "#b0b0b0"
TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)


@dataclass(frozen=True, kw_only=True)
class Course:
    """A seed's training."""

    title: str
    ratios: dict[str, list[float]]
    """By modality, a value a step."""
    conflicts: list[bool]
    """A value a step."""
    threshold: float


def plot(runs: Mapping[str, Path], seed: int) -> str:
    """A panel a run, of one seed."""
    courses = [read_course(arm, run, seed) for arm, run in runs.items()]
    panels = [_panel(course, TOP + index * (HEIGHT + GAP)) for index, course in enumerate(courses)]
    height = TOP + len(panels) * (HEIGHT + GAP)
    style = 'font-family="sans-serif" font-size="12" fill="none"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 20}" height="{height}" {style}>'
    return "\n".join([head, '<rect width="100%" height="100%" fill="white"/>', *panels, "</svg>", ""])


def read_course(arm: str, run: Path, seed: int) -> Course:
    """The steps of a seed of a run."""
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


def _panel(course: Course, top: float) -> str:
    low, high = _range([*course.ratios.values(), [course.threshold]])

    def y(ratio: float) -> float:
        share = math.log(max(low, min(high, ratio)) / low) / math.log(high / low)
        return round(top + HEIGHT * (1 - share), 1)

    def x(step: int) -> float:
        return round(LEFT + WIDTH * step / max(1, len(course.conflicts) - 1), 1)

    marks = "".join(f"M{x(step)} {top}v{HEIGHT}" for step, found in enumerate(course.conflicts) if found)
    parts = [
        f'<path d="{marks}" stroke="{CONFLICT}" stroke-opacity="0.35" stroke-width="1"/>' if marks else "",
        *(_grid(y(tick), f"{tick:g}") for tick in TICKS if low <= tick <= high),
        f'<path d="M{LEFT} {y(course.threshold)}h{WIDTH}" stroke="black" stroke-dasharray="5 4"/>',
    ]
    for name, values in course.ratios.items():
        points = " ".join(f"{x(step)},{y(value)}" for step, value in enumerate(values))
        parts.append(
            f'<polyline points="{points}" stroke="{COLOURS.get(name, "black")}" stroke-width="1.2"/>'
        )
    return "\n".join(part for part in [*parts, _title(course, top), _axis(course, top)] if part)


def _range(values: Iterable[Iterable[float]]) -> tuple[float, float]:
    """Whole ticks around all finite ratios."""
    known = [value for found in values for value in found if 0 < value < math.inf]
    low = max((tick for tick in TICKS if tick <= min(known)), default=TICKS[0])
    high = min((tick for tick in TICKS if tick >= max(known)), default=TICKS[-1])
    return low, max(high, 2 * low)


def _grid(y: float, label: str) -> str:
    line = f'<path d="M{LEFT} {y}h{WIDTH}" stroke="#e0e0e0"/>'
    return line + f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end" fill="black">{label}</text>'


def _title(course: Course, top: float) -> str:
    names = "".join(
        f'<tspan dx="14" fill="{COLOURS.get(name, "black")}">{escape(name)}</tspan>' for name in course.ratios
    )
    legend = f'{names}<tspan dx="14">- - threshold</tspan><tspan dx="14" fill="#808080">| conflict</tspan>'
    return f'<text x="{LEFT}" y="{top - 8}" fill="black">{escape(course.title)}{legend}</text>'


def _axis(course: Course, top: float) -> str:
    last = len(course.conflicts) - 1
    y = top + HEIGHT + 15
    ends = f'<text x="{LEFT}" y="{y}" fill="black">step 0</text>'
    return ends + f'<text x="{LEFT + WIDTH}" y="{y}" text-anchor="end" fill="black">{last}</text>'

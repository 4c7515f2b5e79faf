"""Panels of lines over a shared kind of x, as an SVG; the y axes are logarithmic.

Written out by hand: the picture is a few lines, and needs no plotting library to be installed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT, LEFT, TOP = 380, 260, 64, 34  # pixels: of a panel, and around it
BELOW = 64  # pixels under the panels: the x axis and the legend


@dataclass(frozen=True, kw_only=True)
class Line:
    """What one thing came to."""

    label: str
    colour: str
    dashed: bool = False
    points: Sequence[tuple[float, float]]
    """x and y, both above 0."""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Lines of one measure."""

    title: str
    """With the measure's unit."""
    lines: Sequence[Line]
    """At least one, with at least one point."""


def plot(panels: Sequence[Panel], x_label: str) -> str:
    """The panels side by side; the legend is of the first one's lines."""
    width, height = len(panels) * (LEFT + WIDTH) + 20, TOP + HEIGHT + BELOW
    style = 'font-family="sans-serif" font-size="12" fill="none"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" {style}>',
        '<rect width="100%" height="100%" fill="white"/>',
        *(_panel(panel, LEFT + index * (LEFT + WIDTH), x_label) for index, panel in enumerate(panels)),
        _legend(panels[0].lines),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten, from the last that is not above `low` to the first not below `high`."""
    decades = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 2)
    steps = [factor * 10.0**decade for decade in decades for factor in (1, 2, 5)]
    first = max(step for step in steps if step <= low)
    last = min(step for step in steps if step >= high and step > first)
    return [step for step in steps if first <= step <= last]


def _panel(panel: Panel, left: float, x_label: str) -> str:
    points = [point for line in panel.lines for point in line.points]
    marks = ticks(min(y for _, y in points), max(y for _, y in points))
    x_values = sorted({x for x, _ in points})

    def x(value: float) -> float:
        return round(left + WIDTH * value / x_values[-1], 1)

    def y(value: float) -> float:
        return round(TOP + HEIGHT * (1 - math.log(value / marks[0]) / math.log(marks[-1] / marks[0])), 1)

    bottom = TOP + HEIGHT + 16
    parts = [
        _text(left, TOP - 12, panel.title),
        _text(left, bottom, x_label),
        *(f'<path d="M{left} {y(mark)}h{WIDTH}" stroke="#e0e0e0"/>' for mark in marks),
        *(_text(left - 6, y(mark) + 4, f"{mark:g}", "end") for mark in marks),
        *(_text(x(value), bottom, f"{value:g}", "middle") for value in x_values),
    ]
    for line in panel.lines:
        placed = [(x(at), y(value)) for at, value in line.points]
        corners = " ".join(f"{at},{value}" for at, value in placed)
        parts.append(f'<polyline points="{corners}" {_stroke(line)}/>')
        parts += [f'<circle cx="{at}" cy="{value}" r="3" fill="{line.colour}"/>' for at, value in placed]
    return "\n".join(parts)


def _legend(lines: Sequence[Line]) -> str:
    y, parts = TOP + HEIGHT + 44, []
    for index, line in enumerate(lines):
        left = LEFT + 180 * index
        parts += [f'<path d="M{left} {y - 4}h28" {_stroke(line)}/>', _text(left + 34, y, line.label)]
    return "\n".join(parts)


def _text(x: float, y: float, words: str, anchor: str = "start") -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" fill="black">{escape(words)}</text>'


def _stroke(line: Line) -> str:
    dashes = ' stroke-dasharray="5 4"' if line.dashed else ""
    return f'stroke="{line.colour}" stroke-width="1.6"{dashes}'

"""Figures of the speed benchmarks of video edits and voice conversion: time and memory over the steps."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from benchmarks.measurement import MIB
from pipelines.figures import BLUE, GREEN, RED, logarithmic

if TYPE_CHECKING:
    from matplotlib.axes import Axes

METHODS = {"ours": BLUE, "reference": RED}
"""Methods of editing, with their colours."""
MEMORY = ("Memory above the loaded networks, MiB", MIB)
EDIT_MEASURES = {"seconds": ("Seconds", 1), "bytes": MEMORY}
"""Titles of the panels, and the size of their unit."""
CONVERSION_MEASURES = {
    "real_time_factor": ("Real-time factor", 1),
    "transformer_share": ("Share of the time in the transformer", 1),
    "bytes": MEMORY,
}


def draw_edits(axes: Sequence[Axes], cases: Sequence[dict[str, Any]]) -> None:
    """Draw each of `EDIT_MEASURES` on its own axes, a line for each method and number of frames.

    Of `cases`, those of the largest size are shown; edits that were left out have no point.
    """
    size = max(case["size"] for case in cases)
    cases = [case for case in cases if case["size"] == size]
    counts = sorted({case["frames"] for case in cases})
    for ax, (measure, (title, unit)) in zip(axes, EDIT_MEASURES.items(), strict=True):
        logarithmic(ax)
        for method, frames in itertools.product(METHODS, counts):
            points = [
                (case["steps"], case[method][measure] / unit)
                for case in cases
                if case["frames"] == frames and measure in case[method]
            ]
            style = "-" if frames == counts[-1] else "--"
            _line(ax, points, f"{method}, {frames} frames", style, METHODS[method])
        _finish(ax, f"{title}, {size} pixels", cases)
    _legend(axes[0])


def draw_conversions(axes: Sequence[Axes], cases: Sequence[dict[str, Any]]) -> None:
    """Draw each of `CONVERSION_MEASURES` on its own axes, a line for each length and batch size."""
    lengths, batches = (sorted({case[key] for case in cases}) for key in ("seconds", "batch"))
    # Colours and styles start again from the first if there are more lengths or batch sizes.
    colours = zip(lengths, itertools.cycle((BLUE, RED, GREEN)), strict=False)
    styles = zip(batches, itertools.cycle(("-", "--", ":")), strict=False)
    lines = list(itertools.product(colours, styles))
    for ax, (measure, (title, unit)) in zip(axes, CONVERSION_MEASURES.items(), strict=True):
        for (seconds, colour), (batch, style) in lines:
            points = [
                (case["steps"], case[measure] / unit)
                for case in cases
                if (case["seconds"], case["batch"]) == (seconds, batch)
            ]
            _line(ax, points, f"{seconds:g} s, batch {batch}", style, colour)
        ax.set_ylim(bottom=0)
        _finish(ax, title, cases)
    axes[0].set_ylim(top=max(1.1, axes[0].get_ylim()[1]))
    axes[0].axhline(1.0, color="#999999", linewidth=0.8)
    axes[0].annotate("as long as the sound", (0, 1.0), xytext=(2, 2), textcoords="offset points", fontsize=7)
    _legend(axes[0])


def _line(ax: Axes, points: Sequence[tuple[float, float]], label: str, style: str, colour: str) -> None:
    if points:
        ax.plot(*zip(*points, strict=True), style, color=colour, marker="o", markersize=3, label=label)


def _finish(ax: Axes, title: str, cases: Sequence[dict[str, Any]]) -> None:
    ax.set_xlim(left=0)
    ax.set_xticks(sorted({case["steps"] for case in cases}))
    ax.set_xlabel("steps", fontsize=8)
    ax.set_title(title, fontsize=9)


def _legend(ax: Axes) -> None:
    ax.legend(fontsize=7, frameon=False, ncols=4, handlelength=4, loc="upper left", bbox_to_anchor=(0, -0.16))

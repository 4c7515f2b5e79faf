"""The picture of the benchmark of video edits."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.figures import BLUE, RED, drawn, logarithmic

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WAYS = {"ours": BLUE, "textbook": RED}
"""Of editing, with their colours."""
MEASURES = {"seconds": ("Seconds", 1), "bytes": ("Memory above the loaded networks, MiB", 2**20)}
"""With their titles, and how much is one of the unit there."""


def plot(path: Path, cases: Sequence[dict[str, Any]]) -> None:
    """Draw seconds and memory over the steps as an SVG, a line a way and number of frames.

    Args:
        path: The SVG.
        cases: `cases` of `benchmark.json`; those of the largest size are shown.
    """
    with drawn(path, len(MEASURES), width=4.6, height=3.4, below=0.8) as axes:
        draw(axes, cases)


def draw(axes: Sequence[Axes], cases: Sequence[dict[str, Any]]) -> None:
    """Draw each of `MEASURES` on axes of its own, with a legend of all under the first."""
    size = max(case["size"] for case in cases)
    shown = [case for case in cases if case["size"] == size]
    for ax, measure in zip(axes, MEASURES, strict=True):
        _panel(ax, shown, measure)
        ax.set_title(f"{MEASURES[measure][0]}, {size} pixels", fontsize=9)
    axes[0].legend(
        fontsize=7, frameon=False, ncols=4, handlelength=4, loc="upper left", bbox_to_anchor=(0, -0.16)
    )


def _panel(ax: Axes, cases: Sequence[dict[str, Any]], measure: str) -> None:
    """Draw a line for each way and number of frames; what was left out has no point."""
    logarithmic(ax)
    counts = sorted({case["frames"] for case in cases})
    for way, frames in itertools.product(WAYS, counts):
        found = [case for case in cases if case["frames"] == frames and measure in case[way]]
        values = [case[way][measure] / MEASURES[measure][1] for case in found]
        style = "-" if frames == counts[-1] else "--"
        if found:
            ax.plot(
                [case["steps"] for case in found], values, style, color=WAYS[way], marker="o", markersize=3,
                label=f"{way}, {frames} frames",
            )  # fmt: skip
    ax.set_xlim(left=0)
    ax.set_xticks(sorted({case["steps"] for case in cases}))
    ax.set_xlabel("steps", fontsize=8)

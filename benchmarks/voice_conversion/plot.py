"""The picture of the benchmark of voice conversion."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.figures import BLUE, GREEN, RED, drawn

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MEASURES = {
    "real_time_factor": ("Real-time factor", 1),
    "transformer_share": ("Share of the time in the transformer", 1),
    "bytes": ("Memory above the loaded networks, MiB", 2**20),
}
"""With their titles, and how much is one of the unit there."""
COLOURS = (BLUE, RED, GREEN)
"""Of the lengths, again from the first where there are more."""
STYLES = ("-", "--", ":")
"""Of the batches."""


def plot(path: Path, cases: Sequence[dict[str, Any]]) -> None:
    """Draw each measure over the steps as an SVG, a line a length and batch.

    Args:
        path: The SVG.
        cases: `cases` of `benchmark.json`.
    """
    with drawn(path, len(MEASURES), width=4.2, height=3.4, below=1.0) as axes:
        draw(axes, cases)


def draw(axes: Sequence[Axes], cases: Sequence[dict[str, Any]]) -> None:
    """Draw each of `MEASURES` on axes of its own, with a legend of all under the first."""
    for ax, (measure, (title, unit)) in zip(axes, MEASURES.items(), strict=True):
        _panel(ax, cases, measure, unit)
        ax.set_title(title, fontsize=9)
    axes[0].set_ylim(top=max(1.1, axes[0].get_ylim()[1]))
    axes[0].axhline(1.0, color="#999999", linewidth=0.8)
    axes[0].annotate("as long as the sound", (0, 1.0), xytext=(2, 2), textcoords="offset points", fontsize=7)
    axes[0].legend(
        *axes[0].get_legend_handles_labels(),
        fontsize=7, frameon=False, ncols=4, handlelength=4, loc="upper left", bbox_to_anchor=(0, -0.16),
    )  # fmt: skip


def _panel(ax: Axes, cases: Sequence[dict[str, Any]], measure: str, unit: float) -> None:
    lengths = sorted({case["seconds"] for case in cases})
    batches = sorted({case["batch"] for case in cases})
    for (place, seconds), (style, batch) in itertools.product(enumerate(lengths), enumerate(batches)):
        found = [case for case in cases if (case["seconds"], case["batch"]) == (seconds, batch)]
        ax.plot(
            [case["steps"] for case in found], [case[measure] / unit for case in found],
            STYLES[style % len(STYLES)], color=COLOURS[place % len(COLOURS)], marker="o", markersize=3,
            label=f"{seconds:g} s, batch {batch}",
        )  # fmt: skip
    ax.set_xlim(left=0)
    ax.set_ylim(bottom=0)
    ax.set_xticks(sorted({case["steps"] for case in cases}))
    ax.set_xlabel("steps", fontsize=8)

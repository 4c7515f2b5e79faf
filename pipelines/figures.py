"""Figures of panels as SVG, in one style; equal values give equal bytes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.atomic import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLUE, RED, GREEN = "#0072b2", "#d55e00", "#009e73"  # distinguishable by the colour-blind


@contextmanager
def drawn(
    path: Path, panels: int, *, columns: int = 4, width: float = 3.4, height: float = 2.5, below: float = 0.5
) -> Iterator[list[Axes]]:
    """Axes of a number of panels, written as an SVG after the block that draws on them.

    Args:
        path: The SVG.
        panels: 0 or more.
        columns: Panels per row, at most.
        width, height: Size of a panel in inches.
        below: Inches below the axes of the last row.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    columns = max(1, min(columns, panels))
    rows = max(1, -(-panels // columns))
    across, down = columns * width, rows * height
    figure = Figure(figsize=(across, down))
    # Fixed margins in inches: layouts that measure text are slow.
    margins = {"left": 0.6 / across, "right": 1 - 0.6 / across, "bottom": below / down, "top": 1 - 0.4 / down}
    figure.subplots_adjust(**margins, wspace=0.25, hspace=0.5)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for index, ax in enumerate(axes):
        ax.tick_params(labelsize=7)
        ax.spines[["top", "right"]].set_visible(False)
        ax.set_visible(index < panels)
    yield axes[:panels]
    # Ids and the date would differ between runs; text as paths takes ten times the space.
    with mpl.rc_context({"svg.hashsalt": "daq-msa", "svg.fonttype": "none"}), replacing(path) as temporary:
        figure.savefig(temporary, format="svg", metadata={"Date": None, "Creator": None})


def logarithmic(ax: Axes) -> None:
    """Make y logarithmic, with grid lines at 1, 2 and 5 times powers of ten, labelled with plain numbers."""
    from matplotlib.ticker import LogLocator

    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.minorticks_off()
    ax.grid(axis="y", color="#e0e0e0", linewidth=0.8)
    ax.set_axisbelow(True)

"""Figures of panels, as SVG: the same values give the same bytes, and all look alike."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.atomic import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, RED, GREEN = "#0072b2", "#d55e00", "#009e73"  # told apart by the colour-blind too


@contextmanager
def drawn(
    path: Path, panels: int, *, columns: int = 4, width: float = 3.4, height: float = 2.5, below: float = 0.5
) -> Iterator[list[Axes]]:
    """Axes for so many panels, written as an SVG once they are drawn on.

    Args:
        path: The SVG.
        panels: 0 or more.
        columns: Panels a row, at most.
        width: Inches of a panel.
        height: Inches of a panel.
        below: Inches under the last row's axes.
    """
    import matplotlib as mpl

    columns = max(1, min(columns, panels))
    rows = max(1, -(-panels // columns))
    figure = _figure(rows, columns, width, height, below)
    axes = figure.axes
    for unused in axes[panels:]:
        unused.set_visible(False)
    yield axes[:panels]
    # Ids and the date would differ from run to run; letters as paths take ten times the space.
    with mpl.rc_context({"svg.hashsalt": "daq-msa", "svg.fonttype": "none"}), replacing(path) as temporary:
        figure.savefig(temporary, format="svg", metadata={"Date": None, "Creator": None})


def logarithmic(ax: Axes) -> None:
    """Make y logarithmic, with lines across at 1, 2 and 5 times powers of ten, in plain numbers."""
    from matplotlib.ticker import LogLocator

    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.minorticks_off()
    ax.grid(axis="y", color="#e0e0e0", linewidth=0.8)
    ax.set_axisbelow(True)


def _figure(rows: int, columns: int, width: float, height: float, below: float) -> Figure:
    """Empty panels of so many inches each, with margins in inches: layouts that measure letters are slow."""
    from matplotlib.figure import Figure

    across, down = columns * width, rows * height
    figure = Figure(figsize=(across, down))
    figure.subplots_adjust(
        left=0.6 / across,
        right=1 - 0.6 / across,
        wspace=0.25,
        bottom=below / down,
        top=1 - 0.4 / down,
        hspace=0.5,
    )
    for ax in figure.subplots(rows, columns, squeeze=False).flat:
        ax.tick_params(labelsize=7)
        ax.spines[["top", "right"]].set_visible(False)
    return figure

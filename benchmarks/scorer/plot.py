"""Draws the qualities of corrupted clips over the severities, as SVG."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.figures import drawn
from score.plots import KINDS


def plot_benchmark(path: Path, report: Mapping[str, Any]) -> None:
    """Draw a panel for each corruption: the quality of its track over the severities, and `quality_cross`.

    Args:
        path: The SVG.
        report: Content of `benchmark.json`.
    """
    panels = {
        name: figures
        for name, figures in report["corruptions"].items()
        if len(figures["severities"]) > 1 and figures["severities"][0]["quality"] is not None
    }
    with drawn(path, len(panels)) as axes:
        for (name, figures), ax in zip(panels.items(), axes, strict=True):
            severities = figures["severities"]
            x = range(len(severities))
            low, middle, high, cross = (
                np.array([each[key] for each in severities], dtype=np.float64)  # None becomes NaN
                for key in ("quality_10", "quality", "quality_90", "quality_cross")
            )
            colour = KINDS[figures["track"]]
            ax.fill_between(x, low, high, color=colour, alpha=0.25)
            ax.plot(x, middle, color=colour, marker="o", markersize=3, label=f"quality_{figures['track']}")
            if np.isfinite(cross).any():
                ax.plot(x, cross, color="black", linestyle="--", linewidth=1, label="quality_cross")
            ax.set_xticks(list(x), [f"{each['severity']:g}" for each in severities])
            ax.set_xlabel(figures["unit"], fontsize=8)
            ax.set_ylim(0, 1.05)
            known = [f"{key} {figures[key]:.2f}" for key in ("tau", "area") if figures.get(key) is not None]
            ending = "harmless" if figures["harmless"] else ", ".join(known) or "too few clips"
            ax.set_title(f"{name}: {ending}", fontsize=9)
        if panels:
            axes[0].legend(fontsize=7, loc="lower left")

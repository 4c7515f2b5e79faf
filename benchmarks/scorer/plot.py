"""Picture of what the scorer says of clips that were spoiled by known means, as SVG."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.figures import drawn
from score.plots import KINDS


def plot_benchmark(path: Path, report: Mapping[str, Any]) -> None:
    """Draw a panel for each means: the quality of its track over the grades, and the other track's.

    Args:
        path: The SVG.
        report: What `benchmark.json` holds.
    """
    panels = {name: told for name, told in report["means"].items() if len(told["grades"]) > 1}
    panels = {name: told for name, told in panels.items() if told["grades"][0]["quality"] is not None}
    with drawn(path, len(panels)) as axes:
        for (name, told), ax in zip(panels.items(), axes, strict=True):
            x = range(len(told["grades"]))
            low, middle, high, across = (
                np.array([grade[key] for grade in told["grades"]], dtype=np.float64)  # None becomes NaN
                for key in ("quality_10", "quality", "quality_90", "quality_cross")
            )
            colour = KINDS[told["track"]]
            ax.fill_between(x, low, high, color=colour, alpha=0.25)
            ax.plot(x, middle, color=colour, marker="o", markersize=3, label=f"quality_{told['track']}")
            if np.isfinite(across).any():
                ax.plot(x, across, color="black", linestyle="--", linewidth=1, label="quality_cross")
            ax.set_xticks(list(x), [f"{grade['grade']:g}" for grade in told["grades"]])
            ax.set_xlabel(told["unit"], fontsize=8)
            ax.set_ylim(0, 1.05)
            ax.set_title(f"{name}: {_fell(told)}", fontsize=9)
        if panels:
            axes[0].legend(fontsize=7, loc="lower left")


def _fell(told: Mapping[str, Any]) -> str:
    """How steadily the quality fell, and how well the middle grade is told from a clip encoded again."""
    if told["harmless"]:
        return "harmless"
    known = [f"{key} {told[key]:.2f}" for key in ("tau", "area") if told[key] is not None]
    return ", ".join(known) or "too few clips"

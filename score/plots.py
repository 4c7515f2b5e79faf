"""Figures of a scored store, as SVG; the same values give the same bytes.

calibration.svg   good and bad pairs of each signal, and its quality as a curve
weights.svg       qualities of the variants by kind, and their weights
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.figures import BLUE, GREEN, RED, drawn
from score.quality import Calibration

KINDS = {"video": BLUE, "audio": RED, "both": GREEN, "classic": "#999999"}
FARTHEST = 3.0
"""Range of a panel below the bad anchor, in distances of the anchors; other pairs lie at its edge."""


def plot_calibration(
    path: Path,
    calibration: Calibration,
    good: Mapping[str, list[float]],
    bad: Mapping[str, list[float]],
) -> None:
    """Draw a panel for each signal in use: histograms of its pairs, and the quality as a curve.

    `good` and `bad` are raw values of the pairs, by signal.
    """
    panels = list(calibration.signals)
    with drawn(path, len(panels)) as axes:
        for name, ax in zip(panels, axes, strict=True):
            anchors = calibration.signals[name]
            gap = anchors.good - anchors.bad
            low, high = anchors.bad - FARTHEST * gap, anchors.good + 0.5 * gap
            pairs = [_within(values.get(name, ()), low, high) for values in (good, bad)]
            shown = np.concatenate([*pairs, [anchors.bad, anchors.good]])
            bins = np.linspace(shown.min(), shown.max(), 31).tolist()
            for values, colour, label in zip(pairs, (GREEN, RED), ("good pairs", "bad pairs"), strict=True):
                share = np.full(len(values), 1 / max(len(values), 1))
                ax.hist(
                    values, bins=bins, weights=share, color=colour, alpha=0.6, histtype="stepfilled",
                    label=f"{label} ({len(values)})",
                )  # fmt: skip
            x = np.linspace(bins[0], bins[-1], 100)
            ax.plot(x, anchors.quality(x), color=BLUE, linewidth=1.5, label="quality")
            ax.plot([anchors.bad, anchors.good], [0.1, 1.0], "o", color=BLUE, markersize=4)
            ax.set_ylim(0, 1.05)
            ax.set_title(name if anchors.basis == "corpus" else f"{name}, default anchors", fontsize=9)
            ax.legend(fontsize=6, loc="upper left")


def plot_weights(
    path: Path, qualities: np.ndarray, weights: np.ndarray, kinds: list[str], summary: Mapping[str, Any]
) -> None:
    """Draw the distribution of the qualities by kind, the weights over them, and the ends of their scale.

    Qualities (NaN if unknown), weights and kinds are of the variants, (n,); `summary` is `weights.json`.
    """
    known = np.isfinite(qualities)
    present = [kind for kind in KINDS if kind in kinds]
    with drawn(path, 1, width=7.0, height=4.0) as axes:
        ax = axes[0]
        of = [qualities[known & (np.array(kinds) == kind)] for kind in present]
        bins, colours = np.linspace(0, 1, 41).tolist(), [KINDS[kind] for kind in present]
        if present:
            ax.hist(
                of, bins=bins, stacked=True, color=colours,
                label=[f"{kind} ({len(values)})" for kind, values in zip(present, of, strict=True)],
            )  # fmt: skip
            ax.legend(fontsize=8, loc="upper left")
        ax.set_xlabel("quality")
        ax.set_ylabel("variants")
        ax.set_xlim(0, 1)
        curve = ax.twinx()
        curve.plot(qualities[known], weights[known], ".", color="black", markersize=3)
        curve.set_ylabel("weight")
        curve.set_ylim(0, 1.05)
        for key in ("q_low", "q_high"):
            if key in summary:
                curve.axvline(summary[key], color="black", linestyle=":", linewidth=1)
        ax.set_title(
            f"{summary['variants']} variants weigh as much as {summary.get('effective_size', 0):.0f} equal"
            f" ones; {summary['without_quality']} without a quality",
            fontsize=9,
        )


def _within(values: Any, low: float, high: float) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    return np.clip(array[np.isfinite(array)], low, high)

"""What became of corrupted clips: figures and tables of `benchmarks.scorer.sensitivity`."""

from __future__ import annotations

from collections.abc import Mapping
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.scorer.corruptions import MEANS, Means
from benchmarks.scorer.partners import Track
from pipelines.row import Row, provenance
from pipelines.store import StoreReader
from score.signals.catalogue import SIGNALS, column

CONTROLS: dict[Track, tuple[str, str]] = {
    "video": ("encoded again", "colours changed"),
    "audio": ("sound encoded again", "pitch moved"),
}
"""By track, the harmless means that a spoiled variant has to stand below: one changes nothing, one does."""
OTHER: dict[Track, Track] = {"video": "audio", "audio": "video"}


class Told:
    """Columns of a scored store by means, grade and clip."""

    def __init__(self, scored: Path, means: Mapping[str, Means]) -> None:
        rows = StoreReader(scored).table.to_pylist()
        originals = [row["id"] for row in rows if row["kind"] == "original"]
        self.means = means
        self.clips = {row_id: at for at, row_id in enumerate(originals)}
        self.rows: dict[tuple[str, float], list[Row]] = {}
        for row in (row for row in rows if row["kind"] != "original"):
            self.rows.setdefault(itemgetter("means", "grade")(provenance(row)), []).append(row)

    def grades(self, name: str, key: str) -> np.ndarray:
        """A column of a means' variants, (grades, clips), NaN where there is none."""
        values = np.full((len(self.means[name].grades), len(self.clips)), np.nan)
        for at, grade in enumerate(self.means[name].grades):
            for row in self.rows.get((name, grade), ()):
                if row[key] is not None:
                    values[at, self.clips[row["source_id"]]] = row[key]
        return values

    def middle(self, name: str, key: str) -> np.ndarray:
        """A column at a means' middle grade, (clips,)."""
        return self.grades(name, key)[len(self.means[name].grades) // 2]


def summarise(scored: Path, means: Mapping[str, Means] = MEANS) -> dict[str, Any]:
    """What a scored store says of each means.

    Returns:
        By means its `track`, `unit` and whether it is `harmless`; `grades`: for each its value, how many
        `rows` have it, the median, 10 % and 90 % quantile of `quality` (of the means' own track), and the
        median of `quality_cross`; and
        `other`, the farthest that the other track's quality is from 1. Of what is not harmless also
        `tau`, its middle grade's `area` against the control that changes nothing and `area_harmless`
        against the middle grade of the one that does, and `signals`: `tau` and `area` of each signal alone.
    """
    told = Told(scored, means)
    return {name: _means(told, name) for name in means}


def _means(told: Told, name: str) -> dict[str, Any]:
    way = told.means[name]
    own, other = f"quality_{way.track}", told.grades(name, f"quality_{OTHER[way.track]}")
    grades = [
        {
            "grade": grade,
            "rows": len(told.rows.get((name, grade), ())),
            "quality": _quantile(quality, 0.5),
            "quality_10": _quantile(quality, 0.1),
            "quality_90": _quantile(quality, 0.9),
            "quality_cross": _quantile(across, 0.5),
        }
        for grade, quality, across in zip(
            way.grades, told.grades(name, own), told.grades(name, "quality_cross"), strict=True
        )
    ]
    found: dict[str, Any] = {
        "track": way.track, "unit": way.unit, "harmless": way.harmless, "grades": grades,
        "other": float(np.nanmax(1 - other)) if np.isfinite(other).any() else None,
    }  # fmt: skip
    if way.harmless:
        return found
    nothing, something = (told.middle(control, own) for control in CONTROLS[way.track])
    return found | {
        "tau": tau(told.grades(name, own).T),
        "area": area(nothing, told.middle(name, own)),
        "area_harmless": area(something, told.middle(name, own)),
        "signals": {
            signal: {
                "tau": tau(told.grades(name, column(signal)).T),
                "area": area(
                    told.middle(CONTROLS[way.track][0], column(signal)), told.middle(name, column(signal))
                ),
            }
            for signal, known in SIGNALS.items()
            if known.direction != "none" and known.modality in (way.track, "cross")
        },
    }


def tau(values: np.ndarray) -> float | None:
    """How steadily values fall: Kendall's tau-a of each row with the reversed order of its columns, the mean.

    Args:
        values: (rows, grades); rows with a NaN do not count.

    Returns:
        In [-1, 1]; 1 where each row falls from every grade to any stronger one, 0 where none of them
        changes. None without a row.
    """
    whole = values[np.isfinite(values).all(axis=1)]
    first, second = np.triu_indices(values.shape[1], k=1)
    return float(np.sign(whole[:, first] - whole[:, second]).mean()) if len(whole) else None


def area(better: np.ndarray, worse: np.ndarray) -> float | None:
    """Area under the ROC curve: how often a better one has the higher value, ties counted half.

    Args:
        better: (n,); NaN does not count.
        worse: (m,), as `better`.

    Returns:
        In [0, 1]; 0.5 where the two cannot be told apart. None where either is empty.
    """
    better, worse = better[np.isfinite(better)], worse[np.isfinite(worse)]
    if not len(better) or not len(worse):
        return None
    return float((np.sign(better[:, None] - worse).mean() + 1) / 2)


def markdown(report: Mapping[str, Any]) -> str:
    """The report as two tables: a row a means, its grades from light to strong; and what each signal sees."""
    known = [f"{each['correlation']:.2f} ({name})" for name, each in report["predictors"].items()]
    lines = [
        f"`{report['command']}`: {report['clips']} training clips of {report['mean_duration_s']:.1f} s,"
        f" {report['variants']} variants, {report['rejected']} rejected. The predictors' correlations are"
        f" {', '.join(known) or 'unknown'}. Scored were"
        f" {report['clips_per_processor_second']:.0f} clips a second of processor time, and weighed again"
        f" {report['reweighed_rows_per_processor_second']:.0f} rows.",
        "",
        "| means | grades | clips | quality | quality_cross | other | tau | area | area, harmless |",
        "|---|---|---|---|---|---|---|---|---|",
        *(_line(name, told) for name, told in report["means"].items() if told["grades"][0]["rows"]),
        "",
        *_signal_table(report["means"]),
    ]
    return "\n".join(lines) + "\n"


def _line(name: str, told: Mapping[str, Any]) -> str:
    grades = " · ".join(f"{grade['grade']:g}" for grade in told["grades"])
    medians = [
        " · ".join(_number(grade[key]) for grade in told["grades"]) for key in ("quality", "quality_cross")
    ]
    measures = [_number(told.get(key)) for key in ("other", "tau", "area", "area_harmless")]
    cells = [name, f"{grades} {told['unit']}", f"{told['grades'][0]['rows']}", *medians, *measures]
    return f"| {' | '.join(cells)} |"


def _signal_table(means: Mapping[str, Any]) -> list[str]:
    """Of each signal alone its tau, and its area between the control and each means' middle grade."""
    spoilt = {name: told["signals"] for name, told in means.items() if told.get("area") is not None}
    used = [
        signal
        for signal in SIGNALS
        if any(told.get(signal, {}).get("area") is not None for told in spoilt.values())
    ]
    return [
        f"| means | {' | '.join(used)} |",
        f"|---|{'---|' * len(used)}",
        *(
            f"| {name} | {' | '.join(_alone(told.get(signal, {})) for signal in used)} |"
            for name, told in spoilt.items()
        ),
    ]


def _alone(told: Mapping[str, float | None]) -> str:
    known = [_number(told.get(key)) for key in ("tau", "area")]
    return " · ".join(known) if all(known) else ""


def _quantile(values: np.ndarray, q: float) -> float | None:
    return float(np.nanquantile(values, q)) if np.isfinite(values).any() else None


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"

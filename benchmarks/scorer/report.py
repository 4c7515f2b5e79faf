"""Tables and figure of `benchmarks.scorer.sensitivity`, from the scored store of corrupted clips."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.commands import table
from benchmarks.scorer.corruptions import CORRUPTIONS, Corruption
from benchmarks.scorer.partners import Track
from pipelines.errors import RunError
from pipelines.figures import drawn
from pipelines.row import Row, provenance
from pipelines.store import StoreReader
from score.plots import KINDS
from score.quality import of_whole
from score.signals.catalogue import SIGNALS, column

OTHER: dict[Track, Track] = {"video": "audio", "audio": "video"}
OVERALL = "overall"
"""Name of what `quality` would be if only the corrupted track had been replaced. (`quality` counts the other,
unchanged track, too.)"""
LEAST_TAU, LEAST_AREA, LEAST_MEDIAN = 0.8, 0.9, 0.8
"""What a verdict takes: of a corruption at its middle severity, and of a harmless change's every severity."""


class ScoredVariants:
    """Columns of a scored store by corruption, severity and clip."""

    def __init__(self, scored: Path, corruptions: Mapping[str, Corruption]) -> None:
        """Read them; `RunError` if a variant was made otherwise."""
        rows = StoreReader(scored).table.to_pylist()
        originals = [row["id"] for row in rows if row["kind"] == "original"]
        self.corruptions = corruptions
        self.clips = {row_id: at for at, row_id in enumerate(originals)}
        self.rows: dict[tuple[str, float], list[Row]] = {}
        for row in (row for row in rows if row["kind"] != "original"):
            made = provenance(row)
            if made.get("corruption") not in corruptions:
                raise RunError(
                    f"{scored}: {row['id']} was not made by one of the corruptions; name DIR/scored of"
                    " benchmarks.scorer.sensitivity"
                )
            key = itemgetter("corruption", "severity")(made)
            row[OVERALL] = _overall(row, f"quality_{corruptions[key[0]].track}")
            self.rows.setdefault(key, []).append(row)

    def values(self, name: str, key: str) -> np.ndarray:
        """A column of a corruption's variants, (severities, clips); NaN where there is none."""
        severities = self.corruptions[name].severities
        values = np.full((len(severities), len(self.clips)), np.nan)
        for at, severity in enumerate(severities):
            for row in self.rows.get((name, severity), ()):
                if row[key] is not None:
                    values[at, self.clips[row["source_id"]]] = row[key]
        return values

    def areas(self, name: str, key: str) -> list[float | None]:
        """The area of a column at each severity of a corruption against the harmless changes of its track.

        Each harmless change counts the same, at all its severities: the area is the mean of those against
        each of them. Another person who is as good an example of the mood is not among them: that is another
        recording, and may be worse than a light corruption of the clip's own.
        """
        track = self.corruptions[name].track
        against = [
            self.values(other, key)
            for other, corruption in self.corruptions.items()
            if corruption.harmless and not corruption.partner and corruption.track == track
        ]
        return [_mean(area(better.ravel(), worse) for better in against) for worse in self.values(name, key)]

    def summary(self, name: str) -> dict[str, Any]:
        """The figures of one corruption; see `summarise`."""
        corruption = self.corruptions[name]
        track, own = corruption.track, f"quality_{corruption.track}"
        quality, cross = self.values(name, own), self.values(name, "quality_cross")
        other = self.values(name, f"quality_{OTHER[track]}")
        overall = self.values(name, OVERALL)
        severities = [
            {
                "severity": severity,
                "rows": len(self.rows.get((name, severity), ())),
                "quality": _quantile(quality[at], 0.5),
                "quality_10": _quantile(quality[at], 0.1),
                "quality_90": _quantile(quality[at], 0.9),
                "quality_cross": _quantile(cross[at], 0.5),
                OVERALL: _quantile(overall[at], 0.5),
            }
            for at, severity in enumerate(corruption.severities)
        ]
        figures: dict[str, Any] = {
            "track": track, "unit": corruption.unit, "harmless": corruption.harmless,
            "severities": severities,
            "other": float(np.nanmax(1 - other)) if np.isfinite(other).any() else None,
        }  # fmt: skip
        if corruption.harmless:
            return figures
        signals = {
            signal: self.measures(name, column(signal))
            for signal, known in SIGNALS.items()
            if known.direction != "none" and known.modality in (track, "cross")
        }
        return {
            **figures,
            **self.measures(name, own),
            OVERALL: self.measures(name, OVERALL),
            "signals": signals,
        }

    def measures(self, name: str, key: str) -> dict[str, Any]:
        """`tau` of a column over the severities, its `areas` and the middle severity's `area`."""
        areas = self.areas(name, key)
        return {"tau": tau(self.values(name, key).T), "areas": areas, "area": areas[len(areas) // 2]}


def summarise(scored: Path, corruptions: Mapping[str, Corruption] = CORRUPTIONS) -> dict[str, Any]:
    """Figures of each corruption.

    Returns:
        By corruption its `track`, `unit` and whether it is `harmless`; `severities`: for each its value,
        the number of `rows`, the median, 10 % and 90 % quantile of `quality` (of the corrupted track), and
        the medians of `quality_cross` and `overall`; and `other`, the largest distance of the other track's
        quality from 1. If it is not harmless also `tau`, `areas` and `area` of `quality`, of `overall`, and
        in `signals` of each signal on its own (`ScoredVariants.measures`).
    """
    variants = ScoredVariants(scored, corruptions)
    return {name: variants.summary(name) for name in corruptions}


def verdict(corruptions: Mapping[str, Any], quality: Literal["track", "overall"]) -> dict[str, Any]:
    """Which corruptions are told from harmless changes, and which harmless changes are left alone.

    Args:
        corruptions: As `summarise` returns them.
        quality: The track's quality, or `overall`.

    Returns:
        `harmful`, the number of corruptions that clips have; `missed`, those whose tau or area is too
        small; `harmless`, and `blamed`: those with too small a median at some severity.
    """
    used = {name: each for name, each in corruptions.items() if each["severities"][0]["rows"]}
    harmful = {name: each for name, each in used.items() if not each["harmless"]}
    missed = []
    for name, each in harmful.items():
        measured = each if quality == "track" else each[OVERALL]
        if (measured["tau"] or 0) < LEAST_TAU or (measured["area"] or 0) < LEAST_AREA:
            missed.append(name)
    harmless = {name: each["severities"] for name, each in used.items() if each["harmless"]}
    key = "quality" if quality == "track" else OVERALL
    blamed = [
        name
        for name, each in harmless.items()
        if min(at[key] or 0 for at in each if at["rows"]) < LEAST_MEDIAN
    ]
    return {"harmful": len(harmful), "missed": missed, "harmless": len(harmless), "blamed": blamed}


def tau(values: np.ndarray) -> float | None:
    """Kendall's tau-a of each row with the reversed order of its columns, averaged over the rows.

    Args:
        values: (rows, severities); rows with a NaN do not count.

    Returns:
        In [-1, 1]; 1 if each row falls from every severity to any stronger one, 0 if none of them
        changes. None without a row.
    """
    complete = values[np.isfinite(values).all(axis=1)]
    first, second = np.triu_indices(values.shape[1], k=1)
    return float(np.sign(complete[:, first] - complete[:, second]).mean()) if len(complete) else None


def area(better: np.ndarray, worse: np.ndarray) -> float | None:
    """Area under the ROC curve: how often a better one has the higher value, ties counted half.

    Args:
        better: (n,); NaN does not count.
        worse: (m,); NaN does not count.

    Returns:
        In [0, 1]; 0.5 if the two cannot be told apart. None if either is empty.
    """
    better, worse = better[np.isfinite(better)], worse[np.isfinite(worse)]
    if not len(better) or not len(worse):
        return None
    return float((np.sign(better[:, None] - worse).mean() + 1) / 2)


def markdown(report: Mapping[str, Any]) -> str:
    """The report: its verdicts, a table with a line per corruption, and one of each signal on its own."""
    known = [f"{each['correlation']:.2f} ({name})" for name, each in report["predictors"].items()]
    summary = (
        f"`{report['command']}`: {report['clips']} training clips of {report['mean_duration_s']:.1f} s,"
        f" {report['variants']} variants, {report['rejected']} rejected. The predictors' correlations are"
        f" {', '.join(known) or 'unknown'}. {report['clips_per_processor_second']:.0f} clips were scored per"
        f" second of processor time, and"
        f" {report['reweighed_rows_per_processor_second']:.0f} rows weighed again."
    )
    names = {"track": "the track's quality", OVERALL: "the overall quality"}
    verdicts = "\n".join(f"- By {names[name]}, {_sentence(each)}" for name, each in report["verdict"].items())
    head = ("corruption", "severities", "clips", "quality", "tau", "area", "quality_cross")
    used = {name: each for name, each in report["corruptions"].items() if each["severities"][0]["rows"]}
    lines = [_cells(name, each) for name, each in used.items()]
    corruptions = table((*head, OVERALL, "tau", "area"), lines)
    if moved := [each["other"] for each in used.values() if each["other"] is not None]:
        verdicts += f"\n- The quality of the track that was not changed is at most {max(moved):.2f} below 1."
    return f"{summary}\n\n{verdicts}\n\n{corruptions}\n\n{_signal_table(report['corruptions'])}\n"


def _sentence(found: Mapping[str, Any]) -> str:
    told, alone = (
        found[count] - len(found[failed]) for count, failed in (("harmful", "missed"), ("harmless", "blamed"))
    )
    return (
        f"{told} of {found['harmful']} harmful corruptions have a tau of {LEAST_TAU} and an area of"
        f" {LEAST_AREA} at the middle severity (not: {', '.join(found['missed']) or 'none'}), and {alone} of"
        f" {found['harmless']} harmless changes medians of {LEAST_MEDIAN} (not:"
        f" {', '.join(found['blamed']) or 'none'})."
    )


def _cells(name: str, figures: Mapping[str, Any]) -> list[str]:
    severities, overall = figures["severities"], figures.get(OVERALL, {})
    values = " · ".join(f"{each['severity']:g}" for each in severities)
    quality, cross, whole = (
        " · ".join(_number(each[key]) for each in severities) for key in ("quality", "quality_cross", OVERALL)
    )
    own, together = ([_number(each.get(key)) for key in ("tau", "area")] for each in (figures, overall))
    clips = f"{severities[0]['rows']}"
    return [name, f"{values} {figures['unit']}", clips, quality, *own, cross, whole, *together]


def _signal_table(corruptions: Mapping[str, Any]) -> str:
    """Tau and area of each signal on its own, by corruption; empty where it has none."""
    signals = {name: each["signals"] for name, each in corruptions.items() if each.get("area") is not None}
    used = [
        signal
        for signal in SIGNALS
        if any(each.get(signal, {}).get("area") is not None for each in signals.values())
    ]
    rows = []
    for name, each in signals.items():
        pairs = [[_number(each.get(signal, {}).get(key)) for key in ("tau", "area")] for signal in used]
        rows.append([name, *(" · ".join(pair) if all(pair) else "" for pair in pairs)])
    return table(["corruption", *used], rows)


def plot_benchmark(path: Path, report: Mapping[str, Any]) -> None:
    """Draw a panel for each corruption: the quality of its track over the severities, and `quality_cross`."""
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


def _overall(row: Row, own: str) -> float | None:
    track, cross = (np.array([row[key]], dtype=np.float64) for key in (own, "quality_cross"))
    quality = float(of_whole([track], cross)[0])
    return quality if np.isfinite(quality) else None


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _quantile(values: np.ndarray, q: float) -> float | None:
    return float(np.nanquantile(values, q)) if np.isfinite(values).any() else None


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"

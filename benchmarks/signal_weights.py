"""Whether weights between a track's signals, fitted on graded corruptions, judge other corruptions better.

    python -m benchmarks.signal_weights SCORED [SCORED ...]

SCORED is `DIR/scored` of `benchmarks.scorer.sensitivity`. In `score.quality` all signals of a track count the
same: the track's d² is the mean of theirs. Here they have weights, fitted so that within each clip a stronger
severity has the larger d², and a corrupted variant a larger one than a harmless change. For each corruption,
the weights are fitted on all others and tried on it. The table has how many corruptions are told (as in the
verdict of `benchmarks.scorer.sensitivity`, but without agreements, and without the ceiling of signals that
can only lower a quality), and the means of tau and area.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from benchmarks.commands import table
from benchmarks.scorer.corruptions import CORRUPTIONS
from benchmarks.scorer.report import LEAST_AREA, LEAST_TAU, ScoredVariants, area, tau
from pipelines.errors import RunError, call
from score.quality import TRACKS, excess, load_calibration
from score.signals.catalogue import SIGNALS, Modality, column

PENALTIES = (0.3, 0.03)
"""On the mean squared logarithm of the weights: the fit is near equal weights, or free."""
SLOPE = 8.0
"""Of the logistic loss, per unit of log(1 + 9 d²)."""


class Told(NamedTuple):
    """How well a corruption is told from harmless changes of its track."""

    tau: float
    area: float

    @property
    def well(self) -> bool:
        """Whether both are what the benchmark's verdict takes."""
        return self.tau >= LEAST_TAU and self.area >= LEAST_AREA


@dataclass(frozen=True)
class Graded:
    """The signals of one track of corrupted clips."""

    signals: list[str]
    excess: dict[str, np.ndarray]
    """9 d² by corruption, (severities, clips, signals); NaN where a clip lacks a signal."""

    @staticmethod
    def read(scored: Path, track: Modality) -> Graded:
        """Read those of a store of `benchmarks.scorer.sensitivity`, of the clips that each corruption has."""
        calibration, variants = load_calibration(scored), ScoredVariants(scored, CORRUPTIONS)
        signals = [
            name
            for name in calibration.signals
            if SIGNALS[name].modality == track and name not in calibration.signal_weights
        ]
        found = {}
        for name, corruption in CORRUPTIONS.items():
            other_person = corruption.harmless and corruption.partner
            if corruption.track != track or other_person or not signals:
                continue
            raw = {signal: variants.values(name, column(signal)) for signal in signals}
            qualities = [calibration.signals[signal].quality(values) for signal, values in raw.items()]
            quality = np.stack(qualities, axis=-1)
            clips = np.isfinite(quality).any(axis=-1).all(axis=0)
            if clips.any():
                found[name] = excess(quality[:, clips])
        return Graded(signals, found)

    def harmful(self) -> list[str]:
        """Names of the corruptions that lower a quality."""
        return [name for name in self.excess if not CORRUPTIONS[name].harmless]

    def told(self, name: str, weights: np.ndarray) -> Told:
        """How well a corruption is told by these weights, (signals,)."""
        quality = 1 / (1 + self._mean(name, weights))
        harmless = self.excess.keys() - self.harmful()
        middle = quality[len(quality) // 2]
        areas = [area(1 / (1 + self._mean(other, weights)).ravel(), middle) for other in harmless]
        return Told(tau(quality.T) or 0.0, float(np.mean([each for each in areas if each is not None])))

    def _mean(self, name: str, weights: np.ndarray) -> np.ndarray:
        """Weighted mean of the signals that a variant has, (severities, clips)."""
        known = np.isfinite(self.excess[name])
        return (np.nan_to_num(self.excess[name]) @ weights) / (known @ weights)


def fit(graded: Graded, left_out: str, penalty: float) -> np.ndarray:
    """Weights of the signals, (signals,), fitted on all corruptions but one; 1 each before the fit."""
    used = {name: each for name, each in graded.excess.items() if name != left_out}
    own = {name: torch.from_numpy(np.nan_to_num(each)) for name, each in used.items()}
    known = {name: torch.from_numpy(np.isfinite(each).astype(np.float64)) for name, each in used.items()}
    logs = torch.zeros(len(graded.signals), dtype=torch.float64, requires_grad=True)
    harmful = [name for name in graded.harmful() if name != left_out]
    optimizer = torch.optim.LBFGS([logs], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        weights = logs.exp()
        badness = {name: torch.log1p((own[name] @ weights) / (known[name] @ weights)) for name in own}
        harmless = torch.cat([each.ravel() for name, each in badness.items() if name not in harmful])
        total = penalty * (logs**2).mean()
        for name in harmful:
            severities = badness[name]
            middle = severities[len(severities) // 2]
            for better, worse in ((severities[:-1], severities[1:]), (harmless, middle[:, None])):
                total = total + torch.nn.functional.softplus(SLOPE * (better - worse)).mean() / len(harmful)
        return total

    def step() -> torch.Tensor:
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    optimizer.step(step)
    return logs.exp().detach().numpy()


def rows(scored: Path, track: Modality) -> Iterator[list[str]]:
    """The table's lines for a track of a store: equal weights, then fitted ones of each penalty."""
    graded = Graded.read(scored, track)
    harmful, equal = graded.harmful(), np.ones(len(graded.signals))
    if not harmful:
        return
    yield _cells(scored, track, "equal", {name: graded.told(name, equal) for name in harmful})
    for penalty in PENALTIES:
        found = {name: graded.told(name, fit(graded, name, penalty)) for name in harmful}
        yield _cells(scored, track, f"fitted on the others, penalty {penalty:g}", found)


def _cells(scored: Path, track: str, weights: str, found: Mapping[str, Told]) -> list[str]:
    missed = ", ".join(name for name, each in found.items() if not each.well)
    told = f"{sum(each.well for each in found.values())} of {len(found)}"
    means = [f"{np.mean([getattr(each, name) for each in found.values()]):.3f}" for name in Told._fields]
    return [scored.parent.name, track, weights, told, *means, missed or "none"]


def main(argv: list[str]) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.signal_weights",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("stores", type=Path, nargs="+", help="DIR/scored of benchmarks.scorer.sensitivity")
    lines = []
    for scored in parser.parse_args(argv).stores:
        found = [line for track in TRACKS for line in rows(scored, track)]
        if not found:
            raise RunError(
                f"{scored}: has no corrupted clips; name DIR/scored of benchmarks.scorer.sensitivity"
            )
        lines += found
    print(table(["store", "track", "weights", "told", "mean tau", "mean area", "not told"], lines))


if __name__ == "__main__":
    call(main)

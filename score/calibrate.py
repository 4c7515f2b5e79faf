"""From raw signals to qualities, calibrated on the corpus' own clips.

Harmless changes of originals are the good pairs: the video encoded again, the audio in another voice
(`score.voice_perturbation`; encoded again, without loss, it would be a copy). Mismatched or corrupted
clips are the bad pairs. For each signal, the anchor `good` is the 10 % quantile of the good pairs, the
anchor `bad` the median of the bad ones. With d = max(0, (good - s) / (good - bad)),

    quality = 1 / (1 + 9 d²)

which is 1 at `good`, 0.1 at `bad`, and falls further beyond it, but never to 0, so that one bad
signal does not outweigh all others. The quality of a modality is the geometric mean of its signals'
qualities, and `quality` that of the modalities that apply. Within a track, a signal that another clip
may have as good a value of (no flicker, the same sentiment by chance) counts at most as much as the
other signals: it can lower a quality but not raise it. The choice of pairs and the curve are ours; the
geometric mean over modalities is our reading of the method.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pipelines.atomic import write_json
from pipelines.errors import RunError
from score.signals.catalogue import JUDGED, MODALITIES, SIGNALS, Modality, Signal

FILE = "calibration.json"
MIN_PAIRS = 5
"""Good pairs, and bad pairs, needed to find anchors on a corpus."""
GOOD_QUANTILE, BAD_QUANTILE = 0.1, 0.5
BAD_QUANTILE_OF_CHANCE = 0.25
"""For signals that bad pairs may have a good value of by chance: only those that clearly differ count."""
QUALITY_AT_BAD = 0.1
MIN_GAP = 0.05
"""Anchors that are closer do not tell good from bad."""


@dataclass(frozen=True, kw_only=True)
class Anchors:
    """A bad and a good value of a signal."""

    bad: float
    good: float
    good_pairs: int
    bad_pairs: int
    basis: Literal["corpus", "default"]
    """`default` if the corpus has fewer than `MIN_PAIRS` pairs or the signal needs none; `usual` in 0.1.0."""

    def quality(self, values: np.ndarray) -> np.ndarray:
        """Qualities in (0, 1] of raw values; NaN stays NaN."""
        distance = np.maximum(self.good - values, 0.0) / (self.good - self.bad)
        return 1 / (1 + (1 / QUALITY_AT_BAD - 1) * distance**2)


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """The anchors of the signals in use, and why the others are left out."""

    signals: dict[str, Anchors]
    left_out: dict[str, str]

    def of(self, names: Collection[str]) -> Calibration:
        """The calibration of these signals only."""
        signals = {name: anchors for name, anchors in self.signals.items() if name in names}
        return Calibration(signals=signals, left_out=self.left_out)

    def qualities(self, signals: Mapping[str, np.ndarray], kinds: Sequence[str]) -> dict[str, np.ndarray]:
        """Qualities of variants.

        Args:
            signals: Raw values by the signal's name, each (n,); NaN where it could not be computed.
            kinds: Each row's kind, which decides which modalities apply.

        Returns:
            `quality_video`, `quality_audio`, `quality_cross`, `quality`, each (n,); NaN where it does
            not apply or has no signal.
        """
        qualities = {}
        for modality in MODALITIES:
            applies = np.array([modality in JUDGED[kind] for kind in kinds], dtype=bool)
            quality = self._within(modality, signals, len(kinds))
            qualities[f"quality_{modality}"] = np.where(applies, quality, np.nan)
        qualities["quality"] = _geometric_mean(list(qualities.values()), len(kinds))
        return qualities

    def _within(self, modality: Modality, signals: Mapping[str, np.ndarray], rows: int) -> np.ndarray:
        """Qualities of one modality, (rows,); NaN where it has no signal."""
        own = {
            name: anchors.quality(np.asarray(signals[name], dtype=np.float64))
            for name, anchors in self.signals.items()
            if SIGNALS[name].modality == modality
        }
        vetoes = [name for name in own if SIGNALS[name].veto_only]
        if modality != "cross":  # its other signals measure the mouth, and not whose clip it is
            others = _geometric_mean([own[name] for name in own if name not in vetoes], rows)
            ceiling = np.where(np.isfinite(others), others, 1.0)
            own |= {name: np.minimum(own[name], ceiling) for name in vetoes}
        return _geometric_mean(list(own.values()), rows)

    def save(self, directory: Path, **details: Any) -> None:
        """Write it beside the store, with details about how it was made."""
        signals = {name: asdict(anchors) for name, anchors in self.signals.items()}
        write_json(directory / FILE, {"signals": signals, "left_out": self.left_out, **details})


def load(directory: Path) -> Calibration:
    """Read the calibration beside a store.

    Raises:
        RunError: If there is none, or the file is malformed.
    """
    path = directory / FILE
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
        signals = {name: Anchors(**anchors) for name, anchors in read["signals"].items() if name in SIGNALS}
        return Calibration(signals=signals, left_out=read["left_out"])
    except FileNotFoundError as error:
        raise RunError(f"{path}: missing; score the store first, without --reweigh") from error
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(
            f"{path}: no calibration ({error}); score the store again, without --reweigh"
        ) from error


def calibrate(
    good: Mapping[str, Sequence[float]],
    bad: Mapping[str, Sequence[float]],
    unavailable: Mapping[str, str] | None = None,
    unasked: Collection[str] = (),
) -> Calibration:
    """Find the anchors.

    Args:
        good: Raw values of each signal for the good pairs; NaN are ignored.
        bad: The same for mismatched or corrupted pairs, as `Signal.bad` says.
        unavailable: Signals that could not be computed on this corpus, and why.
        unasked: Signals of models that are not set; they are left out without a reason.

    Returns:
        The calibration. A signal that does not tell good from bad on this corpus is left out, with
        the reason.
    """
    used, left_out = {}, dict(unavailable or {})
    for name, signal in SIGNALS.items():
        if signal.direction == "none" or name in left_out or name in unasked:
            continue
        anchors = _anchors(signal, _finite(good.get(name, ())), _finite(bad.get(name, ())))
        if isinstance(anchors, str):
            left_out[name] = anchors
        else:
            used[name] = anchors
    return Calibration(signals=used, left_out=left_out)


def _anchors(signal: Signal, good: np.ndarray, bad: np.ndarray) -> Anchors | str:
    counts = {"good_pairs": len(good), "bad_pairs": len(bad)}
    if signal.bad == "neither" or min(len(good), len(bad)) < MIN_PAIRS:
        if signal.default_anchors is None:
            return f"{len(good)} good and {len(bad)} bad pairs, wanted {MIN_PAIRS} of each"
        low, high = signal.default_anchors
        return Anchors(bad=low, good=high, **counts, basis="default")
    quantile = BAD_QUANTILE_OF_CHANCE if signal.chance else BAD_QUANTILE
    high, low = float(np.quantile(good, GOOD_QUANTILE)), float(np.quantile(bad, quantile))
    if high - low < MIN_GAP:
        return f"good clips have {high:.3f} and bad ones {low:.3f}: it does not tell them apart here"
    return Anchors(bad=low, good=high, **counts, basis="corpus")


def _finite(values: Sequence[float]) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    return array[np.isfinite(array)]


def _geometric_mean(qualities: list[np.ndarray], rows: int) -> np.ndarray:
    """Geometric mean of the qualities that are not NaN, (rows,); NaN where all are."""
    if not qualities:
        return np.full(rows, np.nan)
    stacked = np.stack(qualities)
    present = np.isfinite(stacked)
    logs = np.where(present, np.log(np.where(present, stacked, 1.0)), 0.0).sum(axis=0)
    counts = present.sum(axis=0)
    return np.where(counts > 0, np.exp(logs / np.maximum(counts, 1)), np.nan)

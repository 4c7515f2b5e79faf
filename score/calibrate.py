"""From raw signals to qualities: what a value is worth is read off this corpus' own clips.

Originals that are changed without harm show what good is: the picture encoded again, the sound said by
another voice (`score.voice_perturbation`; encoded again, without loss, it would be a copy). Mismatched
or spoiled pairs show what bad is. For each signal the 10 % quantile of the good ones is the anchor
`good`, the median of the bad ones the anchor `bad`. With d = (good - s) / (good - bad), 0 at most where
s is better than `good`,

    quality = 1 / (1 + 9 d²)

which is 1 at `good`, 0.1 at `bad`, and falls further, never to 0, beyond it: one ruined signal
lowers a clip but does not drown what the others say. The quality of a modality is the geometric
mean of its signals', and `quality` that of the modalities that apply. Within a track, a signal that
another clip may have as good (no flicker, the same mood by chance) counts as at most what the others
say: it can speak against a variant, and not for it. The choice of pairs and the curve are ours; the
geometric mean over modalities is the method's as we read it.
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
"""Good pairs, and bad ones, that an anchor of this corpus needs."""
GOOD_QUANTILE, BAD_QUANTILE = 0.1, 0.5
BAD_QUANTILE_OF_CHANCE = 0.25
"""The bad anchor of a signal that bad pairs may have good by chance: those that clearly differ."""
QUALITY_AT_BAD = 0.1
MIN_GAP = 0.05
"""Good and bad anchors that are closer do not tell clips apart."""


@dataclass(frozen=True, kw_only=True)
class Anchors:
    """The values of a signal that mean bad and good."""

    bad: float
    good: float
    good_pairs: int
    bad_pairs: int
    basis: Literal["corpus", "usual"]
    """`usual` where the corpus has fewer than `MIN_PAIRS` pairs, or no pair is bad in this."""

    def quality(self, values: np.ndarray) -> np.ndarray:
        """Qualities in (0, 1] of raw values; NaN stays NaN."""
        distance = np.maximum(self.good - values, 0.0) / (self.good - self.bad)
        return 1 / (1 + (1 / QUALITY_AT_BAD - 1) * distance**2)


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """The anchors of the signals that are used, and why the others are not."""

    signals: dict[str, Anchors]
    left_out: dict[str, str]

    def of(self, names: Collection[str]) -> Calibration:
        """That of these signals alone."""
        signals = {name: anchors for name, anchors in self.signals.items() if name in names}
        return Calibration(signals=signals, left_out=self.left_out)

    def qualities(self, signals: Mapping[str, np.ndarray], kinds: Sequence[str]) -> dict[str, np.ndarray]:
        """Qualities of variants.

        Args:
            signals: Raw values by the signal's name, each (n,), NaN where it could not be told.
            kinds: Each row's kind, which decides what applies.

        Returns:
            `quality_video`, `quality_audio`, `quality_cross`, `quality`, each (n,); NaN where it does
            not apply or no signal of it could be told.
        """
        found = {}
        for modality in MODALITIES:
            applies = np.array([modality in JUDGED[kind] for kind in kinds], dtype=bool)
            quality = self._within(modality, signals, len(kinds))
            found[f"quality_{modality}"] = np.where(applies, quality, np.nan)
        found["quality"] = _geometric_mean(list(found.values()), len(kinds))
        return found

    def _within(self, modality: Modality, signals: Mapping[str, np.ndarray], rows: int) -> np.ndarray:
        """Qualities of one modality, (rows,); NaN where no signal of it could be told."""
        own = {
            name: anchors.quality(np.asarray(signals[name], dtype=np.float64))
            for name, anchors in self.signals.items()
            if SIGNALS[name].modality == modality
        }
        against = [name for name in own if SIGNALS[name].against_only]
        if modality != "cross":  # whose other signals tell of the mouth, and not whose clip it is
            others = _geometric_mean([own[name] for name in own if name not in against], rows)
            ceiling = np.where(np.isfinite(others), others, 1.0)
            own |= {name: np.minimum(own[name], ceiling) for name in against}
        return _geometric_mean(list(own.values()), rows)

    def save(self, directory: Path, **details: Any) -> None:
        """Write it beside the store, with what else is worth keeping of how it came about."""
        signals = {name: asdict(anchors) for name, anchors in self.signals.items()}
        write_json(directory / FILE, {"signals": signals, "left_out": self.left_out, **details})


def load(directory: Path) -> Calibration:
    """The calibration beside a store.

    Raises:
        RunError: If there is none, or it is not one.
    """
    path = directory / FILE
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
        signals = {name: Anchors(**anchors) for name, anchors in read["signals"].items() if name in SIGNALS}
        return Calibration(signals=signals, left_out=read["left_out"])
    except FileNotFoundError as error:
        raise RunError(f"{path}: not there; score the store first, without --reweigh") from error
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
        good: Raw values of each signal for originals that are changed without harm; NaN are ignored.
        bad: As `good`, for mismatched pairs, or spoiled ones where the signal asks for those.
        unavailable: Signals that could not be computed on this corpus, and why.
        unasked: Signals of models that are not set; nothing is said of them.

    Returns:
        The calibration. A signal that does not tell good from bad on this corpus is left out, with
        the reason: it counts as neither good nor bad.
    """
    used, left_out = {}, dict(unavailable or {})
    for name, signal in SIGNALS.items():
        if signal.direction == "none" or name in left_out or name in unasked:
            continue
        found = _anchors(signal, _finite(good.get(name, ())), _finite(bad.get(name, ())))
        if isinstance(found, str):
            left_out[name] = found
        else:
            used[name] = found
    return Calibration(signals=used, left_out=left_out)


def _anchors(signal: Signal, good: np.ndarray, bad: np.ndarray) -> Anchors | str:
    counts = {"good_pairs": len(good), "bad_pairs": len(bad)}
    if signal.bad == "neither" or min(len(good), len(bad)) < MIN_PAIRS:
        if signal.usual is None:
            return f"{len(good)} good and {len(bad)} bad pairs, wanted {MIN_PAIRS} of each"
        return Anchors(bad=signal.usual[0], good=signal.usual[1], **counts, basis="usual")
    quantile = BAD_QUANTILE_OF_CHANCE if signal.chance else BAD_QUANTILE
    high, low = float(np.quantile(good, GOOD_QUANTILE)), float(np.quantile(bad, quantile))
    if high - low < MIN_GAP:
        return f"good clips have {high:.3f} and bad ones {low:.3f}: it does not tell them apart here"
    return Anchors(bad=low, good=high, **counts, basis="corpus")


def _finite(values: Sequence[float]) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    return array[np.isfinite(array)]


def _geometric_mean(qualities: list[np.ndarray], rows: int) -> np.ndarray:
    """Over the qualities that are not NaN, (rows,); NaN where all are."""
    if not qualities:
        return np.full(rows, np.nan)
    stacked = np.stack(qualities)
    present = np.isfinite(stacked)
    logs = np.where(present, np.log(np.where(present, stacked, 1.0)), 0.0).sum(axis=0)
    counts = present.sum(axis=0)
    return np.where(counts > 0, np.exp(logs / np.maximum(counts, 1)), np.nan)

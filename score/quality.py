"""From raw signals to qualities: the curve between a signal's anchors, and what a whole variant is worth.

`score.calibrate` finds the anchors on the corpus' own clips. With d = max(0, (good - s) / (good - bad)) of a
signal s,

    quality = 1 / (1 + 9 d²)

which is 1 at `good`, 0.1 at `bad`, and falls further beyond it, but never to 0. The quality of a modality
is the harmonic mean of its signals' qualities, which is this curve at the root mean square of their d. It
is a soft minimum: one signal of five with d = 2 makes it 0.12 (a geometric mean would be 0.49), while
a d of 0.2, within a signal's noise, makes it 0.93 (a minimum would be 0.74). Within a track, a signal that
another clip may have as good a value of (no flicker, no noise) counts as at most the quality of
the other signals: it can lower a quality but not raise it.

An agreement follows the mood and not the look. It is no part of this mean: as many times its d² is added to
the mean's as `signal_weights` says, and at most as much as that of d = `MOST`. `quality_cross`, the mouth,
ends there, too.

`quality` is this curve at the sum of the d² of the tracks that were changed and of the mouth: a variant is
worse than each of its parts, damage to one track adds to that of the other, and a mouth that follows the
audio says nothing good of a face that is not there. The curve, the mean and the sum are ours.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np

from pipelines.atomic import write_json
from pipelines.errors import RunError
from pipelines.untrusted.plain_json import parsed_json
from score.signals.catalogue import JUDGED, MODALITIES, SIGNALS, Modality

FILE = "calibration.json"
TRACKS: tuple[Modality, ...] = ("video", "audio")
QUALITY_AT_BAD = 0.1
MOST = 0.8
"""The largest d that the mood of a track, or the mouth, adds: each alone can ruin a variant, and what else is
wrong still tells which of two ruined ones is worse. A mood whose weight is below 1 adds less."""
_Number = TypeVar("_Number", float, np.ndarray)


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
        return _at_distance(np.maximum(self.good - values, 0.0) / (self.good - self.bad))


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """The anchors of the signals in use, and why the others are left out."""

    signals: dict[str, Anchors]
    left_out: dict[str, str]
    signal_weights: dict[str, float] = field(default_factory=dict)
    """How often the d² of a signal is added to the mean of the others of its modality; one that is not listed
    is part of that mean."""

    def of(self, names: Collection[str]) -> Calibration:
        """The calibration of these signals only."""
        signals = {name: anchors for name, anchors in self.signals.items() if name in names}
        return replace(self, signals=signals)

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
        tracks = [qualities[f"quality_{track}"] for track in TRACKS]
        return qualities | {"quality": of_whole(tracks, qualities["quality_cross"])}

    def equally_weighted(self) -> Calibration:
        """The same, with every signal part of the mean."""
        return replace(self, signal_weights={})

    def _within(self, modality: Modality, signals: Mapping[str, np.ndarray], rows: int) -> np.ndarray:
        """Qualities of one modality, (rows,); NaN where it has no signal."""
        own = {
            name: anchors.quality(np.asarray(signals[name], dtype=np.float64))
            for name, anchors in self.signals.items()
            if SIGNALS[name].modality == modality
        }
        added = {name: own.pop(name) for name in self.signal_weights.keys() & own.keys()}
        vetoes = [name for name in own if SIGNALS[name].veto_only]
        if modality != "cross":  # its other signals measure the mouth, and not whose clip it is
            others = _harmonic_mean([own[name] for name in own if name not in vetoes], rows)
            ceiling = np.where(np.isfinite(others), others, 1.0)
            own |= {name: np.minimum(own[name], ceiling) for name in vetoes}
        most = excess(_at_distance(MOST))
        mean = excess(_harmonic_mean([*own.values()], rows))
        parts = [np.minimum(mean, most) if modality == "cross" else mean]
        for name, quality in added.items():
            weight = self.signal_weights[name]
            parts.append(np.minimum(weight * excess(quality), min(weight, 1.0) * most))
        return _with_excess(parts)

    def save(self, directory: Path, **details: Any) -> None:
        """Write it beside the store, with details about how it was made."""
        signals = {name: asdict(anchors) for name, anchors in self.signals.items()}
        own = {"signals": signals, "left_out": self.left_out, "signal_weights": self.signal_weights}
        write_json(directory / FILE, own | details)


def load_calibration(directory: Path) -> Calibration:
    """Read the calibration beside a store.

    Raises:
        RunError: If there is none, or the file is malformed.
    """
    path = directory / FILE
    try:
        read = parsed_json(path.read_text(encoding="utf-8"))
        signals = {name: Anchors(**anchors) for name, anchors in read["signals"].items() if name in SIGNALS}
        weights = {name: float(each) for name, each in dict(read.get("signal_weights", {})).items()}
        for name, each in signals.items():
            if not -np.inf < each.bad < each.good < np.inf:
                raise ValueError(f"{name}: bad is {each.bad}, good {each.good}")
        if not all(0 <= each < np.inf for each in weights.values()):
            raise ValueError(f"signal_weights: {weights}")
        return Calibration(signals=signals, left_out=read["left_out"], signal_weights=weights)
    except FileNotFoundError as error:
        raise RunError(f"{path}: missing; score the store first, without --reweigh") from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise RunError(
            f"{path}: no calibration ({error}); score the store again, without --reweigh"
        ) from error


def excess(qualities: _Number) -> _Number:
    """9 d² of qualities; NaN stays NaN."""
    return 1 / qualities - 1


def of_whole(tracks: Sequence[np.ndarray], cross: np.ndarray) -> np.ndarray:
    """Qualities of variants: the curve at the sum of the d² of their parts.

    Args:
        tracks: The quality of each track, (n,); NaN where it was not changed.
        cross: `quality_cross`, (n,); NaN without one.

    Returns:
        (n,); NaN where all are.
    """
    return _with_excess([excess(quality) for quality in (*tracks, cross)])


def _at_distance(distance: _Number) -> _Number:
    """Qualities in (0, 1] at distances d, 0 or more, from the good anchor."""
    return 1 / (1 + (1 / QUALITY_AT_BAD - 1) * distance**2)


def _harmonic_mean(qualities: list[np.ndarray], rows: int) -> np.ndarray:
    """Harmonic mean of the qualities that are not NaN, (rows,); NaN where all are."""
    mean = np.full(rows, np.nan)
    if not qualities:
        return mean
    reciprocals = 1 / np.stack(qualities)  # qualities are above 0
    counts = np.isfinite(reciprocals).sum(axis=0)
    return np.divide(counts, np.nansum(reciprocals, axis=0), out=mean, where=counts > 0)


def _with_excess(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Qualities whose 9 d² is the sum of those that are not NaN, (n,); NaN where all are."""
    known = np.isfinite(parts).any(axis=0)
    return np.where(known, 1 / (1 + np.nansum(parts, axis=0)), np.nan)

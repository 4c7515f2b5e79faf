"""From raw signals to qualities, calibrated on the corpus' own clips.

Harmless changes of originals are the good pairs: the video encoded again, or with another look
(`score.picture_perturbation`), the audio in another voice (`score.voice_perturbation`; encoded again,
without loss, it would be a copy). Mismatched or corrupted clips are the bad pairs. For each signal, the
anchor `good` is the 20 % quantile of the good pairs, the anchor `bad` the median of the bad ones. With
d = max(0, (good - s) / (good - bad)),

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
audio says nothing good of a face that is not there. The choice of pairs, the curve, the mean and the sum are
ours.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np

from pipelines.atomic import read_json_lines, write_json, write_json_lines
from pipelines.errors import RunError
from pipelines.untrusted.plain_json import parsed_json
from score.signals.catalogue import JUDGED, MODALITIES, SIGNALS, Modality, Signal

FILE = "calibration.json"
PAIRS_FILE = "pairs.jsonl"
"""A line for each pair: its `case` and its signals by name, without those that it does not have. It lets a
store be weighed again by other signals."""
MIN_PAIRS = 5
"""Good pairs, and bad pairs, needed to find anchors on a corpus."""
GOOD_QUANTILE, BAD_QUANTILE = 0.2, 0.5
BAD_QUANTILE_OF_CHANCE = 0.25
"""For signals that bad pairs may have a good value of by chance: only those that clearly differ count."""
QUALITY_AT_BAD = 0.1
MOST = 0.8
"""The largest d that the mood of a track, or the mouth, adds: each alone can ruin a variant, and what else is
wrong still tells which of two ruined ones is worse. A mood whose weight is below 1 adds less."""
GOOD_QUANTILE_OF_CROSS = 0.02
"""The signal stands alone in its modality: no other softens what it says of a harmless change."""
WHOLE_GOOD_QUANTILE, WHOLE_BAD_QUANTILE = 0.1, 0.75
"""Of the qualities of whole pairs: nine in ten good ones, and one in four bad ones, are better."""
MIN_GAP = 0.05
"""Anchors that are closer do not tell good from bad."""
DEFAULT_SCALE = (QUALITY_AT_BAD, 1.0)
"""Bad and good quality if a corpus has too few pairs: what a signal has at its own anchors."""

GOOD: dict[Modality, tuple[str, ...]] = {
    "video": ("encoded_again", "another_look"),
    "audio": ("another_voice",),
    "cross": ("encoded_again", "another_look", "another_voice"),
}
"""The cases that are good pairs of a signal, by its modality."""
CHANGED: dict[Modality, tuple[str, ...]] = {"video": ("another_look",), "audio": ("another_voice",)}
"""Those that are more than a copy: encoded again, a track is better than any variant can be."""
MISMATCHED: dict[Modality, tuple[str, ...]] = {
    "video": ("mismatched_video",),
    "audio": ("mismatched_audio",),
    "cross": ("mismatched_video", "mismatched_audio"),
}
_Number = TypeVar("_Number", float, np.ndarray)
TRACKS: tuple[Modality, ...] = ("video", "audio")
CORRUPTED = ("corrupted", "spoiled")  # the second is the case's name in results of 0.1.0


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
        most = _excess(_at_distance(MOST))
        mean = _excess(_harmonic_mean([*own.values()], rows))
        parts = [np.minimum(mean, most) if modality == "cross" else mean]
        for name, quality in added.items():
            weight = self.signal_weights[name]
            parts.append(np.minimum(weight * _excess(quality), min(weight, 1.0) * most))
        return _with_excess(parts)

    def save(self, directory: Path, **details: Any) -> None:
        """Write it beside the store, with details about how it was made."""
        signals = {name: asdict(anchors) for name, anchors in self.signals.items()}
        own = {"signals": signals, "left_out": self.left_out, "signal_weights": self.signal_weights}
        write_json(directory / FILE, own | details)


@dataclass(frozen=True)
class Pairs:
    """The pairs of a corpus."""

    cases: list[str]
    signals: dict[str, np.ndarray]
    """Raw values by the signal's name, (n,); NaN where one does not apply or could not be computed."""

    def by_signal(self) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
        """Raw values of the good pairs and of the bad ones, by signal.

        The good pairs are those of the harmless change that lowers the signal most.
        """
        good, bad = {}, {}
        for name, signal in SIGNALS.items():
            ruined = CORRUPTED if signal.bad == "corrupted" else MISMATCHED[signal.modality]
            good[name] = self._lowest(name, GOOD[signal.modality]).tolist()
            bad[name] = self.signals[name][self._are(ruined)].tolist()
        return good, bad

    def _lowest(self, name: str, cases: Sequence[str]) -> np.ndarray:
        """Values of the case, of those with enough pairs, in which the signal's good quantile is lowest."""
        values = [_finite(self.signals[name][self._are([case])]) for case in cases]
        enough = [each for each in values if len(each) >= MIN_PAIRS]
        if not enough:
            return np.concatenate(values)
        return min(enough, key=lambda each: float(np.quantile(each, _good_quantile(SIGNALS[name]))))

    def scale(self, calibration: Calibration) -> Anchors:
        """The qualities between which a weight rises, from those of whole pairs.

        A pair is judged as a variant of the track that was changed, by all its signals together; a
        corrupted clip as two, one for each track. Clips that were only encoded again do not count.
        """
        good = [self._qualities(calibration, track, CHANGED[track]) for track in TRACKS]
        bad = [self._qualities(calibration, track, (*MISMATCHED[track], *CORRUPTED)) for track in TRACKS]
        return scale_anchors(np.concatenate(good), np.concatenate(bad))

    def _qualities(self, calibration: Calibration, track: Modality, cases: Sequence[str]) -> np.ndarray:
        """Qualities of the pairs of these cases as variants of the kind that is named like the track."""
        chosen = self._are(cases)
        signals = {name: values[chosen] for name, values in self.signals.items()}
        return calibration.qualities(signals, [track] * int(chosen.sum()))["quality"]

    def _are(self, cases: Sequence[str]) -> np.ndarray:
        return np.isin(np.array(self.cases, dtype=str), cases)

    def save(self, directory: Path) -> None:
        """Write them beside a store."""
        lines = []
        for index, case in enumerate(self.cases):
            values = {name: float(each[index]) for name, each in self.signals.items()}
            known = {name: value for name, value in values.items() if np.isfinite(value)}
            lines.append({"case": case} | known)
        write_json_lines(directory / PAIRS_FILE, lines)


def load(directory: Path) -> Calibration:
    """Read the calibration beside a store.

    Raises:
        RunError: If there is none, or the file is malformed.
    """
    path = directory / FILE
    try:
        read = parsed_json(path.read_text(encoding="utf-8"))
        signals = {name: Anchors(**anchors) for name, anchors in read["signals"].items() if name in SIGNALS}
        weights = {name: float(each) for name, each in dict(read.get("signal_weights", {})).items()}
        return Calibration(signals=signals, left_out=read["left_out"], signal_weights=weights)
    except FileNotFoundError as error:
        raise RunError(f"{path}: missing; score the store first, without --reweigh") from error
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(
            f"{path}: no calibration ({error}); score the store again, without --reweigh"
        ) from error


def load_pairs(directory: Path) -> Pairs:
    """Read the pairs beside a store; none beside a store of 0.1.0.

    Raises:
        RunError: If the file is malformed.
    """
    path = directory / PAIRS_FILE
    lines = read_json_lines(path)
    try:
        cases = [line["case"] for line in lines]
        signals = {name: [line.get(name, np.nan) for line in lines] for name in SIGNALS}
        return Pairs(cases, {name: np.array(each, dtype=np.float64) for name, each in signals.items()})
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{path}: no pairs ({error}); score the store again, without --reweigh") from error


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


def of_whole(tracks: Sequence[np.ndarray], cross: np.ndarray) -> np.ndarray:
    """Qualities of variants: the curve at the sum of the d² of their parts.

    Args:
        tracks: The quality of each track, (n,); NaN where it was not changed.
        cross: `quality_cross`, (n,); NaN without one.

    Returns:
        (n,); NaN where all are.
    """
    return _with_excess([_excess(quality) for quality in (*tracks, cross)])


def scale_anchors(good: np.ndarray, bad: np.ndarray) -> Anchors:
    """The qualities between which a weight rises from the smallest to 1.

    Args:
        good: Qualities of good pairs, each judged by all its signals, (n,); NaN are ignored.
        bad: The same for bad pairs, (m,).

    Returns:
        Their quantiles; `DEFAULT_SCALE` if there are too few pairs or they cannot be told apart.
    """
    good, bad = _finite(good), _finite(bad)
    counts = {"good_pairs": len(good), "bad_pairs": len(bad)}
    if min(len(good), len(bad)) >= MIN_PAIRS:
        high = float(np.quantile(good, WHOLE_GOOD_QUANTILE))
        low = float(np.quantile(bad, WHOLE_BAD_QUANTILE))
        if high - low >= MIN_GAP:
            return Anchors(bad=low, good=high, **counts, basis="corpus")
    low, high = DEFAULT_SCALE
    return Anchors(bad=low, good=high, **counts, basis="default")


def _good_quantile(signal: Signal) -> float:
    return GOOD_QUANTILE_OF_CROSS if signal.modality == "cross" else GOOD_QUANTILE


def _anchors(signal: Signal, good: np.ndarray, bad: np.ndarray) -> Anchors | str:
    counts = {"good_pairs": len(good), "bad_pairs": len(bad)}
    if signal.bad == "neither" or min(len(good), len(bad)) < MIN_PAIRS:
        if signal.default_anchors is None:
            return f"{len(good)} good and {len(bad)} bad pairs, wanted {MIN_PAIRS} of each"
        low, high = signal.default_anchors
        return Anchors(bad=low, good=high, **counts, basis="default")
    of_bad = BAD_QUANTILE_OF_CHANCE if signal.chance else BAD_QUANTILE
    high, low = float(np.quantile(good, _good_quantile(signal))), float(np.quantile(bad, of_bad))
    if high - low < MIN_GAP:
        return f"good clips have {high:.3f} and bad ones {low:.3f}: it does not tell them apart here"
    return Anchors(bad=low, good=high, **counts, basis="corpus")


def _at_distance(distance: _Number) -> _Number:
    """Qualities in (0, 1] at distances d, 0 or more, from the good anchor."""
    return 1 / (1 + (1 / QUALITY_AT_BAD - 1) * distance**2)


def _finite(values: Sequence[float] | np.ndarray) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    return array[np.isfinite(array)]


def _harmonic_mean(qualities: list[np.ndarray], rows: int) -> np.ndarray:
    """Harmonic mean of the qualities that are not NaN, (rows,); NaN where all are."""
    mean = np.full(rows, np.nan)
    if not qualities:
        return mean
    reciprocals = 1 / np.stack(qualities)  # qualities are above 0
    counts = np.isfinite(reciprocals).sum(axis=0)
    return np.divide(counts, np.nansum(reciprocals, axis=0), out=mean, where=counts > 0)


def _excess(qualities: _Number) -> _Number:
    """9 d² of qualities; NaN stays NaN."""
    return 1 / qualities - 1


def _with_excess(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Qualities whose 9 d² is the sum of those that are not NaN, (n,); NaN where all are."""
    known = np.isfinite(parts).any(axis=0)
    return np.where(known, 1 / (1 + np.nansum(parts, axis=0)), np.nan)

"""Finds the anchors between which `score.quality` judges a signal, on the corpus' own clips.

Harmless changes of originals are the good pairs: the video encoded again, or with another look
(`score.perturbation.picture`), the audio in another voice (`score.perturbation.voice`; encoded again,
without loss, it would be a copy). Mismatched or corrupted clips are the bad pairs. For each signal, the
anchor `good` is the 20 % quantile of the good pairs, the anchor `bad` the median of the bad ones. The choice
of pairs and the quantiles are ours.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipelines.atomic import read_json_lines, write_json_lines
from pipelines.errors import RunError
from score.quality import QUALITY_AT_BAD, TRACKS, Anchors, Calibration
from score.signals.catalogue import SIGNALS, Modality, Signal

PAIRS_FILE = "pairs.jsonl"
"""A line for each pair: its `case` and its signals by name, without those that it does not have. It lets a
store be weighed again by other signals."""
MIN_PAIRS = 5
"""Good pairs, and bad pairs, needed to find anchors on a corpus."""
GOOD_QUANTILE, BAD_QUANTILE = 0.2, 0.5
BAD_QUANTILE_OF_CHANCE = 0.25
"""For signals that bad pairs may have a good value of by chance: only those that clearly differ count."""
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
CORRUPTED = ("corrupted", "spoiled")  # the second is the case's name in results of 0.1.0


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


def _finite(values: Sequence[float] | np.ndarray) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    return array[np.isfinite(array)]

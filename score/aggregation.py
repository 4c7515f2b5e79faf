"""From what was measured to qualities and weights: the part that sees the whole training split at once."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipelines.row import QUALITIES, Row, effective_size
from score import label_probability
from score.calibrate import Calibration, calibrate
from score.predictor import Copies, Predictor, cross_fit, of_track
from score.signals.catalogue import JUDGED, MODALITIES, SIGNALS, Modality, column, judged
from score.weights import newness, quantiles, weights

logger = logging.getLogger(__name__)

AGREEMENTS: dict[str, Modality] = {f"{modality}_agreement": modality for modality in MODALITIES}
"""The signals for which a predictor is asked: of the picture, of the sound, and of both."""
THRESHOLDS = tuple(round(0.1 * tenths, 1) for tenths in range(1, 10))
"""Qualities of which `weights.json` says which share of the variants lies below."""
_GOOD: dict[Modality, tuple[str, ...]] = {
    "video": ("encoded_again",),
    "audio": ("another_voice",),
    "cross": ("encoded_again", "another_voice"),
}
_MISMATCHED: dict[Modality, tuple[str, ...]] = {
    "video": ("mismatched_video",),
    "audio": ("mismatched_audio",),
    "cross": ("mismatched_video", "mismatched_audio"),
}


@dataclass(frozen=True)
class Variants:
    """The variants of a store and their signals."""

    positions: list[int]
    """Of their rows in the store."""
    ids: list[str]
    kinds: list[str]
    signals: dict[str, np.ndarray]
    """Raw values by the signal's name, (n,); NaN where one does not apply or could not be told."""

    @classmethod
    def of(cls, rows: list[Row], positions: Iterable[int], measured: Mapping[int, Row]) -> Variants:
        """Those among the rows at these positions that are no originals; `measured` holds their signals."""
        chosen = [at for at in positions if rows[at]["kind"] != "original"]
        values = {
            name: np.array([_number(measured[at].get(column(name))) for at in chosen], dtype=np.float64)
            for name in SIGNALS
        }
        return cls(chosen, [rows[at]["id"] for at in chosen], [rows[at]["kind"] for at in chosen], values)


@dataclass(frozen=True)
class Judgement:
    """What a training split's measures amount to."""

    variants: Variants
    calibration: Calibration
    predictors: dict[str, dict[str, float]]
    """How good each predictor is, by its signal; without those that there are none of."""
    good: dict[str, list[float]]
    """Raw values by signal of the pairs that the calibration takes for good."""
    bad: dict[str, list[float]]
    """Of those that it takes for bad."""


def judge(
    rows: list[Row],
    measured: Mapping[int, Row],
    *,
    folds: int,
    unavailable: Mapping[str, str] | None = None,
    unasked: Collection[str] = (),
    labels: dict[str, float] | None = None,
) -> Judgement:
    """Fit the predictors, ask them about each variant, and calibrate every signal.

    Args:
        rows: Every row of the store, without media.
        measured: What was measured, by the row's position; training rows alone.
        folds: How many models a predictor has.
        unavailable: Signals that cannot be had here, and why.
        unasked: Signals of models that are not set.
        labels: Log probabilities of the labels by row id, of a frozen model; None where none was asked.
    """
    variants = Variants.of(rows, measured, measured)
    originals = [at for at in measured if rows[at]["kind"] == "original"]
    found = {name: _fitted(rows, measured, originals, name, folds) for name in AGREEMENTS}
    predictors = {name: each for name, each in found.items() if not isinstance(each, str)}
    good, bad = _pairs(rows, measured, originals, predictors)
    for name, predictor in predictors.items():
        _ask(rows, measured, originals, variants, name, predictor)
    missing = {name: each for name, each in found.items() if isinstance(each, str)}
    missing |= _enter_labels(rows, variants, labels)
    report = {
        name: {"correlation": each.correlation, "spread": each.spread, "folds": len(each.models)}
        for name, each in predictors.items()
    }
    calibration = calibrate(good, bad, missing | dict(unavailable or {}), unasked)
    return Judgement(variants, calibration, report, good, bad)


def _fitted(
    rows: list[Row], measured: Mapping[int, Row], originals: list[int], name: str, folds: int
) -> Predictor | str:
    """The predictor of a signal: of the labels of its track where all originals have one, or of the label.

    Originals without the track say nothing about it and are left out.
    """
    tracked = np.isfinite(of_track(_features(measured[at] for at in originals), AGREEMENTS[name])).any(axis=1)
    originals = [at for at, has_it in zip(originals, tracked, strict=True) if has_it]
    own = f"label_{AGREEMENTS[name]}"
    labels = np.array([_number(rows[at].get(own)) for at in originals])
    if not np.isfinite(labels).all() or not len(labels):
        labels = np.array([_number(rows[at]["label"]) for at in originals])
    features = of_track(_features(measured[at] for at in originals), AGREEMENTS[name])
    made = [
        (of, case)
        for of, at in enumerate(originals)
        for case in measured[at]["cases"]
        if case["case"] in _GOOD[AGREEMENTS[name]]
    ]
    copies = Copies(
        of_track(_features(case for _, case in made), AGREEMENTS[name]), np.array([of for of, _ in made], int)
    )
    groups = [rows[at]["group"] for at in originals]
    return cross_fit(features, labels, groups, folds=folds, copies=copies)


def _ask(
    rows: list[Row],
    measured: Mapping[int, Row],
    originals: list[int],
    variants: Variants,
    name: str,
    predictor: Predictor,
) -> None:
    """Enter a predictor's agreement on each variant and its source."""
    index_of = {rows[at]["id"]: at for at in originals}
    applies = [
        (index, at, index_of[rows[at]["source_id"]])
        for index, at in enumerate(variants.positions)
        if rows[at]["source_id"] in index_of and AGREEMENTS[name] in judged(rows[at])
    ]
    agreement = predictor.agreement(
        of_track(_features(measured[at] for _, at, _ in applies), AGREEMENTS[name]),
        of_track(_features(measured[source] for _, _, source in applies), AGREEMENTS[name]),
        [rows[source]["group"] for _, _, source in applies],
    )
    # As the store will hold it, so that weighing again from the store gives the same weights.
    variants.signals[name][[index for index, _, _ in applies]] = agreement.astype(np.float32)


def _enter_labels(rows: list[Row], variants: Variants, labels: dict[str, float] | None) -> dict[str, str]:
    """Enter how much less probable each variant's label is; why the signal is left out, where it is."""
    if labels is None or not variants.ids:
        return {}
    sources = [rows[at]["source_id"] for at in variants.positions]
    values = label_probability.change(labels, variants.ids, sources)
    variants.signals[label_probability.NAME][:] = values
    unknown = int(np.isnan(values).sum())
    if unknown == len(values):
        return {label_probability.NAME: "the file of score.label_probability knows no variant and its source"}
    if unknown:
        logger.warning(
            "score.label_probability: %d of %d variants or sources are not there", unknown, len(values)
        )
    return {}


def weigh(
    variants: Variants,
    calibration: Calibration,
    *,
    low: float,
    high: float,
    gamma: float,
    floor: float,
    novelty: float = 0.0,
) -> tuple[dict[int, Row], dict[str, Any]]:
    """The columns of each variant, and a summary.

    A variant of which no signal could be told gets no quality and the least weight: nothing
    vouches for it.

    Returns:
        By position, the `score_*` and `quality*` columns and `weight`; and the summary for `weights.json`.
    """
    qualities = calibration.qualities(variants.signals, variants.kinds)
    known = np.isfinite(qualities["quality"])
    ids = [variants.ids[index] for index in np.flatnonzero(known)]
    weight = np.full(len(known), floor**gamma)
    weight[known] = weights(
        qualities["quality"][known], low=low, high=high, gamma=gamma, floor=floor, ids=ids
    )
    if novelty:
        new = [variants.signals[name] for name, signal in SIGNALS.items() if signal.direction == "none"]
        weight *= newness(new, low=low, high=high, floor=floor) ** novelty
    columns = {column(name): values for name, values in variants.signals.items()} | qualities
    rows = {
        at: {name: float(each[index]) if np.isfinite(each[index]) else None for name, each in columns.items()}
        | {"weight": float(weight[index])}
        for index, at in enumerate(variants.positions)
    }
    settings = {"low": low, "high": high, "gamma": gamma, "floor": floor, "novelty": novelty}
    return rows, settings | _summary(variants, qualities["quality"][known], weight, settings)


def unscored() -> Row:
    """The columns of an original: no signals, no qualities, weight 1."""
    return dict.fromkeys((*(column(name) for name in SIGNALS), *QUALITIES)) | {"weight": 1.0}


def _summary(
    variants: Variants, qualities: np.ndarray, weight: np.ndarray, settings: dict[str, float]
) -> dict[str, Any]:
    kinds = np.array(variants.kinds)
    least = settings["floor"] ** settings["gamma"]
    found: dict[str, Any] = {"variants": len(weight), "without_quality": len(weight) - len(qualities)}
    if len(qualities):
        q_low, q_high = quantiles(qualities, low=settings["low"], high=settings["high"])
        below = {f"{threshold:g}": float((qualities < threshold).mean()) for threshold in THRESHOLDS}
        found |= {"q_low": q_low, "q_high": q_high, "share_below_quality": below}
    if len(weight):
        found |= {
            "mean_weight": {
                kind: float(weight[kinds == kind].mean()) for kind in JUDGED if kind in variants.kinds
            },
            "effective_size": effective_size(weight),
            "share_at_least_weight": float((weight <= least).mean()),
        }
    return found


def _pairs(
    rows: list[Row], measured: Mapping[int, Row], originals: list[int], predictors: Mapping[str, Predictor]
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Raw values of good and of bad pairs, by signal."""
    good: dict[str, list[float]] = {name: [] for name in SIGNALS}
    bad: dict[str, list[float]] = {name: [] for name in SIGNALS}
    for at in originals:
        for case in measured[at]["cases"]:
            values = dict.fromkeys(SIGNALS, float("nan")) | dict(case["signals"])
            for name, predictor in predictors.items():
                made, source = (
                    of_track(_features([{"features": features}]), AGREEMENTS[name])
                    for features in (case["features"], measured[at]["features"])
                )
                values[name] = float(predictor.agreement(made, source, [rows[at]["group"]])[0])
            for name, signal in SIGNALS.items():
                wanted = ("spoiled",) if signal.bad == "spoiled" else _MISMATCHED[signal.modality]
                if case["case"] in _GOOD[signal.modality]:
                    good[name].append(values[name])
                elif case["case"] in wanted:
                    bad[name].append(values[name])
    return good, bad


def _features(measured: Iterable[Row]) -> np.ndarray:
    from score.media.clip import FEATURE_SIZES

    vectors = [row["features"] for row in measured]
    return np.array(vectors, dtype=np.float64).reshape(len(vectors), sum(FEATURE_SIZES))


def _number(value: float | None) -> float:
    return float("nan") if value is None else value

"""The steps that need the whole training split at once: predictors, calibration, and the rows' columns.

How signals become a quality is in `score.quality`, how a quality becomes a weight in `score.weights`.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from pipelines.row import QUALITIES, Row, effective_size
from score import label_probability
from score.calibrate import GOOD, Pairs, calibrate
from score.media.clip import FEATURE_SIZES
from score.predictor import Copies, Predictor, cross_fit, of_track
from score.quality import Anchors, Calibration
from score.settings import Ruined, Scale
from score.signals.catalogue import JUDGED, SIGNALS, Modality, column, judged
from score.weights import anchored, newness, quantiles, weights

logger = logging.getLogger(__name__)

AGREEMENTS: dict[str, Modality] = {"video_agreement": "video", "audio_agreement": "audio"}
"""The signals that a predictor computes, and the track that it is fitted on."""
MOST_MOOD = 8.0
"""How often the d² of an agreement is added to that of a track at most."""
THRESHOLDS = tuple(round(0.1 * tenths, 1) for tenths in range(1, 10))
"""Qualities for which `weights.json` has the share of variants below."""


@dataclass(frozen=True)
class Variants:
    """The variants of a store and their signals."""

    positions: list[int]
    """Positions of their rows in the store."""
    ids: list[str]
    kinds: list[str]
    signals: dict[str, np.ndarray]
    """Raw values by the signal's name, (n,); NaN where one does not apply or could not be computed."""

    @classmethod
    def of(cls, rows: list[Row], positions: Iterable[int], measured: Mapping[int, Row]) -> Variants:
        """The variants among the rows at these positions; `measured` holds their signals."""
        chosen = [at for at in positions if rows[at]["kind"] != "original"]
        values = {
            name: np.array([_number(measured[at].get(column(name))) for at in chosen], dtype=np.float64)
            for name in SIGNALS
        }
        return cls(chosen, [rows[at]["id"] for at in chosen], [rows[at]["kind"] for at in chosen], values)


@dataclass(frozen=True)
class Judgement:
    """The result of `judge`."""

    variants: Variants
    calibration: Calibration
    predictors: dict[str, dict[str, float]]
    """Figures of each predictor that could be fitted, by its signal."""
    pairs: Pairs


def judge(
    rows: list[Row],
    measured: Mapping[int, Row],
    *,
    folds: int,
    unavailable: Mapping[str, str] | None = None,
    unasked: Collection[str] = (),
    labels: dict[str, float] | None = None,
) -> Judgement:
    """Fit the predictors, apply them to each variant, and calibrate every signal.

    Args:
        rows: Every row of the store, without media.
        measured: Results by the row's position; training rows only.
        folds: Number of models of a predictor.
        unavailable: Signals that cannot be computed here, and why.
        unasked: Signals of models that are not set.
        labels: Log probability of each row's label under a frozen model, by row id; None without one.
    """
    variants = Variants.of(rows, measured, measured)
    originals = [at for at in measured if rows[at]["kind"] == "original"]
    fits = {name: _fit(rows, measured, originals, name, folds) for name in AGREEMENTS}
    predictors = {name: fit for name, fit in fits.items() if not isinstance(fit, str)}
    pairs = _pairs(rows, measured, originals, predictors)
    for name, predictor in predictors.items():
        _set_agreement(rows, measured, originals, variants, name, predictor)
    missing = {name: fit for name, fit in fits.items() if isinstance(fit, str)}
    missing |= _set_label_change(rows, variants, labels)
    report = {
        name: {"correlation": each.correlation, "spread": each.spread, "folds": len(each.models)}
        for name, each in predictors.items()
    }
    calibration = calibrate(*pairs.by_signal(), missing | dict(unavailable or {}), unasked)
    signal_weights = {name: _mood_weight(each) for name, each in predictors.items()}
    return Judgement(variants, replace(calibration, signal_weights=signal_weights), report, pairs)


def _mood_weight(predictor: Predictor) -> float:
    """How often its agreement's d² is added to that of a track, in [0, `MOST_MOOD`].

    The square of the variance of the label that it explains over that which it leaves, in clips that it has
    not seen: one that tells a tenth of the variance says hardly anything. Formula ours.
    """
    explained = predictor.correlation**2
    return min(MOST_MOOD, (explained / max(1 - explained, 1e-6)) ** 2)


def _fit(
    rows: list[Row], measured: Mapping[int, Row], originals: list[int], name: str, folds: int
) -> Predictor | str:
    """Fit a signal's predictor to its track's own labels if all originals have one, else to `label`.

    Originals without the track are left out.
    """
    modality = AGREEMENTS[name]
    features = _features((measured[at] for at in originals), modality)
    tracked = np.isfinite(features).any(axis=1)
    originals, features = [originals[index] for index in np.flatnonzero(tracked)], features[tracked]
    labels = np.array([_number(rows[at].get(f"label_{modality}")) for at in originals])
    if not np.isfinite(labels).all() or not len(labels):
        labels = np.array([_number(rows[at]["label"]) for at in originals])
    made = [
        (of, case)
        for of, at in enumerate(originals)
        for case in measured[at]["cases"]
        if case["case"] in GOOD[modality]
    ]
    copies = Copies(_features((case for _, case in made), modality), np.array([of for of, _ in made], int))
    groups = [rows[at]["group"] for at in originals]
    return cross_fit(features, labels, groups, folds=folds, copies=copies)


def _set_agreement(
    rows: list[Row],
    measured: Mapping[int, Row],
    originals: list[int],
    variants: Variants,
    name: str,
    predictor: Predictor,
) -> None:
    """Fill in the agreement of a predictor's values for each variant and its source."""
    modality = AGREEMENTS[name]
    index_of = {rows[at]["id"]: at for at in originals}
    applies = [
        (index, at, index_of[rows[at]["source_id"]])
        for index, at in enumerate(variants.positions)
        if rows[at]["source_id"] in index_of and modality in judged(rows[at])
    ]
    agreement = predictor.agreement(
        _features((measured[at] for _, at, _ in applies), modality),
        _features((measured[source] for _, _, source in applies), modality),
        [rows[source]["group"] for _, _, source in applies],
    )
    # Rounded as in the store, so that weighing again from the store gives the same weights.
    variants.signals[name][[index for index, _, _ in applies]] = agreement.astype(np.float32)


def _set_label_change(rows: list[Row], variants: Variants, labels: dict[str, float] | None) -> dict[str, str]:
    """Fill in how much less probable each variant's label is; returns why the signal is left out."""
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
    anchors: Anchors,
    *,
    scale: Scale,
    ruined: Ruined,
    low: float,
    high: float,
    gamma: float,
    floor: float,
    novelty: float,
) -> tuple[dict[int, Row], dict[str, Any]]:
    """Compute qualities and weights; the keyword arguments are the settings of the same names.

    A variant without any signal gets no quality and the smallest weight. One of lower quality than the bad
    anchor is ruined.

    Args:
        variants: What to weigh.
        calibration: The anchors of the signals that count.
        anchors: The qualities of bad and of good pairs.

    Returns:
        By position, the `score_*` and `quality*` columns and `weight`; and the summary for `weights.json`.
    """
    qualities = calibration.qualities(variants.signals, variants.kinds)
    quality = qualities["quality"]
    known, is_ruined = np.isfinite(quality), quality < anchors.bad
    ids = [variants.ids[index] for index in np.flatnonzero(known)]
    weight = np.full(len(known), floor**gamma)
    if scale == "ranks":
        weight[known] = weights(quality[known], low=low, high=high, gamma=gamma, floor=floor, ids=ids)
    else:
        ends = {"bad": anchors.bad, "good": anchors.good}
        weight[known] = anchored(quality[known], **ends, gamma=gamma, floor=floor, ids=ids)
    if novelty:
        new = [variants.signals[name] for name, signal in SIGNALS.items() if signal.direction == "none"]
        weight *= newness(new, low=low, high=high, floor=floor) ** novelty
    if ruined == "drop":
        weight[is_ruined] = 0.0
    summary: dict[str, Any] = {"scale": scale, "low": low, "high": high, "gamma": gamma, "floor": floor}
    summary |= {"novelty": novelty, "anchors": asdict(anchors)}
    summary |= _summary(variants, quality[known], weight, summary)
    summary["ruined"] = [variants.ids[index] for index in np.flatnonzero(is_ruined)]
    return _rows(variants, qualities, weight), summary


def _rows(variants: Variants, qualities: Mapping[str, np.ndarray], weight: np.ndarray) -> dict[int, Row]:
    """The variants' columns by position; NaN becomes null."""
    columns = {column(name): values for name, values in variants.signals.items()} | dict(qualities)
    return {
        at: {name: float(each[index]) if np.isfinite(each[index]) else None for name, each in columns.items()}
        | {"weight": float(weight[index])}
        for index, at in enumerate(variants.positions)
    }


def unscored() -> Row:
    """The columns of an original: no signals, no qualities, weight 1."""
    return dict.fromkeys((*(column(name) for name in SIGNALS), *QUALITIES)) | {"weight": 1.0}


def _summary(
    variants: Variants, qualities: np.ndarray, weight: np.ndarray, settings: Mapping[str, Any]
) -> dict[str, Any]:
    kinds = np.array(variants.kinds)
    least = settings["floor"] ** settings["gamma"]
    summary: dict[str, Any] = {"variants": len(weight), "without_quality": len(weight) - len(qualities)}
    if len(qualities):
        q_low, q_high = settings["anchors"]["bad"], settings["anchors"]["good"]
        if settings["scale"] == "ranks":
            q_low, q_high = quantiles(qualities, low=settings["low"], high=settings["high"])
        below = {f"{threshold:g}": float((qualities < threshold).mean()) for threshold in THRESHOLDS}
        summary |= {"q_low": q_low, "q_high": q_high, "share_below_quality": below}
    if len(weight):
        summary |= {
            "mean_weight": {
                kind: float(weight[kinds == kind].mean()) for kind in JUDGED if kind in variants.kinds
            },
            "effective_size": effective_size(weight),
            "share_at_least_weight": float((weight <= least).mean()),
        }
    return summary


def _pairs(
    rows: list[Row], measured: Mapping[int, Row], originals: list[int], predictors: Mapping[str, Predictor]
) -> Pairs:
    """The pairs made from originals, with the agreement of each predictor's values."""
    cases, values = [], []
    for at in originals:
        for case in measured[at]["cases"]:
            signals = dict.fromkeys(SIGNALS, float("nan")) | dict(case["signals"])
            for name, predictor in predictors.items():
                made, source = (_features([each], AGREEMENTS[name]) for each in (case, measured[at]))
                signals[name] = float(predictor.agreement(made, source, [rows[at]["group"]])[0])
            cases.append(case["case"])
            values.append(signals)
    columns = {name: [_number(each[name]) for each in values] for name in SIGNALS}
    return Pairs(cases, {name: np.array(each, dtype=np.float64) for name, each in columns.items()})


def _features(measured: Iterable[Row], modality: Modality) -> np.ndarray:
    """Pooled features of results or cases, (n, d); NaN for the track that is not of the modality."""
    vectors = [row["features"] for row in measured]
    return of_track(np.array(vectors, dtype=np.float64).reshape(len(vectors), sum(FEATURE_SIZES)), modality)


def _number(value: float | None) -> float:
    return float("nan") if value is None else value

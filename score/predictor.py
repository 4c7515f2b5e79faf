"""A frozen predictor of the label, to ask whether a variant still means what its source meant.

Ridge regression from pooled features (`Clip.features`) to the label, fitted on originals of the
training split alone, in k folds by group: a clip and its variants are predicted by the model that
saw nobody of their group. It is never trained with what it scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pipelines.ridge import Decomposed
from pipelines.row import digest
from score.media.clip import FEATURE_SIZES
from score.signals.catalogue import Modality

PENALTIES = tuple(float(10.0**power) for power in range(-2, 5))
"""Ridge penalties, for features whose squares sum to about 1 a modality; the best is chosen in each fold."""
LEAST_KEPT = 1e-3
"""Added to 1 - leverage, which a row that alone decides its own prediction has none of."""
FARTHEST = 3.0
"""Standard deviations of a feature over the originals that it counts for at most."""
MIN_ORIGINALS, MIN_GROUPS = 16, 3
"""With fewer labelled originals, or groups, nothing is fitted."""
MIN_CORRELATION = 0.2
"""Out-of-fold predictions that follow the labels less than this say nothing about them."""


@dataclass(frozen=True)
class Ridge:
    """A fitted linear model."""

    mean: np.ndarray
    scale: np.ndarray
    coefficients: np.ndarray
    intercept: float

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Predicted labels of features (n, d), (n,); a track that lacks (NaN) counts as average.

        What lies farther from the average than originals do counts as `FARTHEST` deviations: a band
        that is missing altogether says no more than one that is as weak as it gets.
        """
        x = _standardised(features, self.mean, self.scale)
        farthest = FARTHEST / np.sqrt(np.repeat(FEATURE_SIZES, FEATURE_SIZES))
        return np.clip(x, -farthest, farthest) @ self.coefficients + self.intercept


@dataclass(frozen=True)
class Predictor:
    """One model a fold; a group's clips are asked of the fold that it was held out of."""

    models: tuple[Ridge, ...]
    fold_of: dict[str, int]
    """The fold of each group."""
    spread: float
    """Standard deviation of the out-of-fold predictions of originals, on the label's scale."""
    correlation: float
    """Pearson correlation of the out-of-fold predictions with the labels."""

    def predict(self, features: np.ndarray, groups: Sequence[str]) -> np.ndarray:
        """Predicted labels of features (n, d), each by the model that never saw its group.

        NaN for a group that has no fold: none of its clips has the track.
        """
        predictions = np.full(len(features), np.nan)
        folds = np.array([self.fold_of.get(group, -1) for group in groups], dtype=int)
        for fold, model in enumerate(self.models):
            if (folds == fold).any():
                predictions[folds == fold] = model.predict(features[folds == fold])
        return predictions

    def agreement(self, variants: np.ndarray, sources: np.ndarray, groups: Sequence[str]) -> np.ndarray:
        """Less the distance of the predictions for variants and their sources, in spreads, (n,).

        In (-inf, 0]; 0 where the predictor sees no difference.
        """
        return -np.abs(self.predict(variants, groups) - self.predict(sources, groups)) / self.spread


def of_track(features: np.ndarray, modality: Modality) -> np.ndarray:
    """Features (n, d) with those of the other track missing (NaN); all of them for `cross`."""
    if modality == "cross":
        return features
    cells = FEATURE_SIZES[0]
    kept = features.copy()
    kept[:, slice(cells, None) if modality == "video" else slice(cells)] = np.nan
    return kept


class Copies(NamedTuple):
    """Harmless changes of originals, which mean what these mean: another voice, another encoding."""

    features: np.ndarray
    """(m, d), as those of the originals."""
    of: np.ndarray
    """The original of each, (m,), as its row among them."""


def cross_fit(
    features: np.ndarray,
    labels: np.ndarray,
    groups: Sequence[str],
    *,
    folds: int,
    copies: Copies | None = None,
) -> Predictor | str:
    """Fit the predictor on originals of the training split.

    Args:
        features: (n, d); NaN where a track lacks.
        labels: (n,); rows without a label (NaN) are left out of the fit.
        groups: Each row's speaker or source video.
        folds: How many models; fewer where there are fewer groups.
        copies: Fitted beside their originals, so that what they change counts for less.

    Returns:
        The predictor, or why there is none.
    """
    fold_of = assign_folds(groups, folds)
    labelled = np.isfinite(labels)
    usable = int(labelled.sum())
    if usable < MIN_ORIGINALS or len(fold_of) < MIN_GROUPS:
        return (
            f"{usable} labelled originals of {len(fold_of)} groups, a predictor wants {MIN_ORIGINALS}"
            f" of {MIN_GROUPS}"
        )
    of_row = np.array([fold_of[group] for group in groups])
    models = []
    clips, x = np.arange(len(labels)), features
    if copies is not None:
        clips, x = np.concatenate([clips, copies.of]), np.concatenate([x, copies.features])
    for fold in range(max(fold_of.values()) + 1):
        seen = (labelled & (of_row != fold))[clips]
        models.append(fit(x[seen], labels[clips[seen]], clips[seen]))
    unseen = Predictor(tuple(models), fold_of, 1.0, 0.0).predict(features, groups)[labelled]
    spread = float(unseen.std())
    if spread < 1e-6 or labels[labelled].std() < 1e-6:
        return "the labels of the originals, or what is predicted for them, do not differ"
    correlation = float(np.corrcoef(unseen, labels[labelled])[0, 1])
    if correlation < MIN_CORRELATION:
        return (
            f"its predictions for clips that it has not seen correlate {correlation:.2f} with the labels,"
            f" wanted {MIN_CORRELATION:g}"
        )
    return Predictor(tuple(models), fold_of, spread, correlation)


def assign_folds(groups: Sequence[str], folds: int) -> dict[str, int]:
    """The fold of each group: groups in the order of their digests, dealt out in turn."""
    ordered = sorted(set(groups), key=digest)
    return {group: index % min(folds, len(ordered)) for index, group in enumerate(ordered)}


def fit(features: np.ndarray, labels: np.ndarray, clips: np.ndarray) -> Ridge:
    """Ridge regression with the penalty whose error on a clip is least that is left out with its copies.

    Args:
        features: (n, d); NaN where a track lacks.
        labels: (n,).
        clips: The clip of each row, (n,); a clip and its copies have the same.
    """
    mean, scale = _moments(features)
    x = _standardised(features, mean, scale)
    together = [np.flatnonzero(clips == clip) for clip in np.unique(clips)]
    rows = Decomposed(x, labels)
    penalty = min(PENALTIES, key=lambda each: rows.left_out_error(each, together, LEAST_KEPT))
    return Ridge(mean, scale, *rows.fit(penalty))


def _moments(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and scale of each feature, (d,), over the rows that have it.

    The picture's features are in one unit, so they share one scale: cells where nothing ever is in
    the originals would otherwise make the most of any noise there. Each modality gets equal say,
    however many numbers it has.
    """
    present = np.isfinite(features)
    counts = np.maximum(present.sum(axis=0), 1)
    mean = np.where(present, features, 0.0).sum(axis=0) / counts
    deviation = np.sqrt((np.where(present, features - mean, 0.0) ** 2).sum(axis=0) / counts)
    cells, numbers = FEATURE_SIZES
    deviation[:cells] = np.sqrt((deviation[:cells] ** 2).mean())
    scale = np.maximum(deviation, 1e-6) * np.sqrt(np.repeat(FEATURE_SIZES, (cells, numbers)))
    return mean, scale


def _standardised(features: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return np.nan_to_num((features.astype(np.float64) - mean) / scale, nan=0.0)

"""A predictor of the label, to check whether a variant still expresses the sentiment of its source.

Ridge regression from pooled features (`Clip.features`) to the label, fitted on originals of the
training split only, in k folds by group: a clip and its variants are predicted by the model that was
fitted without their group. It is never fitted on what it scores.

It is fitted within groups: on what the features and the label of a clip differ by from the means of its
group. How people differ from each other then does not count, as it does not between a variant and its source.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pipelines.ridge import Decomposed
from pipelines.row import digest
from score.media.clip import FEATURE_SIZES
from score.signals.catalogue import Modality

PENALTIES = tuple(float(10.0**power) for power in range(-2, 5))
"""Ridge penalties for features whose squares sum to about 1 per modality; one is chosen per fold."""
TOLERATED = 0.05
"""Share of the labels' variance by which the error may exceed the smallest: variants lie farther out than any
original, and a larger penalty is surer there."""
LEAST_KEPT = 1e-3
"""Added to 1 - leverage, which is 0 for a row that alone determines its own prediction."""
FARTHEST = 6.0
"""Differences of features are clipped to this many standard deviations within a group: a band that is missing
altogether counts no more than one that is as weak as in any original."""
NEAR: dict[Modality, float] = {"video": FARTHEST, "audio": 0.5}
"""Up to how many of these deviations a difference counts in full."""
BEYOND = 0.2
"""How much of it counts beyond that. A converted voice is farther from its source, above all in the height of
the pitch, than a mood takes one person: that is another voice and hardly another mood."""
MIN_ORIGINALS, MIN_GROUPS = 16, 3
"""Fewest labelled originals, and groups, to fit a predictor on."""
MIN_CORRELATION = 0.2
"""Smallest correlation of out-of-fold predictions with the labels for a predictor to be used."""


@dataclass(frozen=True)
class Ridge:
    """A fitted linear model of differences."""

    scale: np.ndarray
    coefficients: np.ndarray
    deviations: np.ndarray
    """Of the features of originals within their groups, (d,)."""

    def predict(self, differences: np.ndarray) -> np.ndarray:
        """By how much labels differ, (n,), for differences of features (n, d); NaN, a missing track, is none.

        What lies beyond `NEAR` deviations counts by `BEYOND`, and what lies beyond `FARTHEST` does not count.
        """
        x = np.clip(differences.astype(np.float64) / self.deviations, -FARTHEST, FARTHEST)
        limit = np.repeat([*NEAR.values()], FEATURE_SIZES)
        near = np.clip(x, -limit, limit)
        counted = (near + BEYOND * (x - near)) * self.deviations
        return np.asarray(np.nan_to_num(counted / self.scale, nan=0.0) @ self.coefficients)


@dataclass(frozen=True)
class Predictor:
    """One model per fold; a group's clips are predicted by the model fitted without it."""

    models: tuple[Ridge, ...]
    fold_of: dict[str, int]
    """The fold of each group."""
    spread: float
    """Standard deviation of the out-of-fold predictions of originals, on the label's scale."""
    correlation: float
    """Pearson correlation of the out-of-fold predictions with the labels, both relative to their group."""

    def predict(self, differences: np.ndarray, groups: Sequence[str]) -> np.ndarray:
        """By how much labels differ, (n,), for differences of features (n, d) within these groups.

        NaN for a group without a fold: none of its clips has the track.
        """
        predictions = np.full(len(differences), np.nan)
        folds = np.array([self.fold_of.get(group, -1) for group in groups], dtype=int)
        for fold, model in enumerate(self.models):
            if (folds == fold).any():
                predictions[folds == fold] = model.predict(differences[folds == fold])
        return predictions

    def agreement(self, variants: np.ndarray, sources: np.ndarray, groups: Sequence[str]) -> np.ndarray:
        """Negative distance of the labels predicted for variants and sources, in units of `spread`, (n,).

        In (-inf, 0]; 0 for equal predictions.
        """
        return -np.abs(self.predict(variants - sources, groups)) / self.spread


def of_track(features: np.ndarray, track: Modality) -> np.ndarray:
    """Features (n, d) with the other track's set to NaN."""
    cells = FEATURE_SIZES[0]
    kept = features.copy()
    kept[:, slice(cells, None) if track == "video" else slice(cells)] = np.nan
    return kept


class Copies(NamedTuple):
    """Harmless changes of originals, with the same sentiment: another voice, another encoding."""

    features: np.ndarray
    """Their features, (m, d)."""
    of: np.ndarray
    """Index of each one's original, (m,)."""


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
        features: (n, d); NaN for a missing track.
        labels: (n,); rows without a label (NaN) are left out of the fit.
        groups: Each row's speaker or source video.
        folds: Number of models; fewer if fewer groups have labels.
        copies: Added to the fit, so that features that they change count less.

    Returns:
        The predictor, or why there is none.
    """
    labelled = np.isfinite(labels)
    usable = int(labelled.sum())
    fold_of = assign_folds([group for group, known in zip(groups, labelled, strict=True) if known], folds)
    if usable < MIN_ORIGINALS or len(fold_of) < MIN_GROUPS:
        return (
            f"found {usable} labelled originals of {len(fold_of)} groups; a predictor needs at least"
            f" {MIN_ORIGINALS} of {MIN_GROUPS}"
        )
    fold_of |= {group: 0 for group in groups if group not in fold_of}  # no model has seen its labels
    means = _Means.of(features, labels, groups)
    features, targets = features - means.features, labels - means.labels
    of_row = np.array([fold_of[group] for group in groups])
    models = []
    clips, x = np.arange(len(labels)), features
    if copies is not None:
        clips = np.concatenate([clips, copies.of])
        x = np.concatenate([x, copies.features - means.features[copies.of]])
    for fold in range(max(fold_of.values()) + 1):
        known = labelled & (of_row != fold)
        used = known[clips]
        models.append(fit(x[used], targets[clips[used]], clips[used], _deviations(features[known])))
    predicted = Predictor(tuple(models), fold_of, 1.0, 0.0).predict(features, groups)[labelled]
    targets = targets[labelled]
    spread = float(predicted.std())
    if spread < 1e-6 or targets.std() < 1e-6:
        return "the labels of the originals, or what is predicted for them, do not differ"
    correlation = float(np.corrcoef(predicted, targets)[0, 1])
    if correlation < MIN_CORRELATION:
        return (
            f"its predictions for clips that it has not seen correlate {correlation:.2f} with the labels,"
            f" wanted {MIN_CORRELATION:g}"
        )
    return Predictor(tuple(models), fold_of, spread, correlation)


class _Means(NamedTuple):
    """What each original is relative to: the means of the labelled ones of its group.

    If too few have another one in their group, they are relative to the means of all.
    """

    features: np.ndarray
    """(n, d); NaN where no clip of the group has the track."""
    labels: np.ndarray
    """(n,)."""

    @classmethod
    def of(cls, features: np.ndarray, labels: np.ndarray, groups: Sequence[str]) -> _Means:
        labelled = np.isfinite(labels)
        sizes = Counter(group for group, known in zip(groups, labelled, strict=True) if known)
        if sum(size for size in sizes.values() if size > 1) < MIN_ORIGINALS:
            groups = [""] * len(labels)
        own = np.array(groups)
        of_features, of_labels = np.full_like(features, np.nan), np.full_like(labels, np.nan)
        for group in set(groups):
            mine = own == group
            of_features[mine] = _mean(features[mine & labelled])
            of_labels[mine] = _mean(labels[mine & labelled][:, None])[0]
        return cls(of_features, of_labels)


def _mean(rows: np.ndarray) -> np.ndarray:
    """Mean over the rows (n, d) that are not NaN, (d,); NaN where all are."""
    present = np.isfinite(rows)
    counts = present.sum(axis=0)
    sums = np.where(present, rows, 0.0).sum(axis=0)
    return np.divide(sums, counts, out=np.full(rows.shape[1], np.nan), where=counts > 0)


def assign_folds(groups: Sequence[str], folds: int) -> dict[str, int]:
    """The fold of each group; groups are dealt out in the order of their digests."""
    ordered = sorted(set(groups), key=digest)
    return {group: index % min(folds, len(ordered)) for index, group in enumerate(ordered)}


def fit(features: np.ndarray, labels: np.ndarray, clips: np.ndarray, deviations: np.ndarray) -> Ridge:
    """Ridge regression with the largest penalty of about the smallest error.

    The error is that on clips that are left out with their copies; `TOLERATED` says what about means.

    Args:
        features: Relative to the means of the groups, (n, d); NaN for a missing track.
        labels: Relative to the means of the groups, (n,).
        clips: The clip of each row, (n,), the same for a clip and its copies.
        deviations: Of the features of originals within their groups, (d,).
    """
    scale = _scale(features)
    x = np.nan_to_num(features / scale, nan=0.0)
    left_out = [np.flatnonzero(clips == clip) for clip in np.unique(clips)]
    rows = Decomposed(x, labels)
    errors = {each: rows.left_out_error(each, left_out, LEAST_KEPT) for each in PENALTIES}
    most = min(errors.values()) + TOLERATED * float(labels.var())
    penalty = max(each for each, error in errors.items() if error <= most)
    coefficients, _ = rows.fit(penalty)  # the intercept is that of equal clips, 0
    return Ridge(scale, coefficients, deviations)


def _scale(features: np.ndarray) -> np.ndarray:
    """Scale of each feature, (d,). Each modality has the same total variance, of however many features."""
    return _deviations(features) * np.sqrt(np.repeat(FEATURE_SIZES, FEATURE_SIZES))


def _deviations(features: np.ndarray) -> np.ndarray:
    """Root mean square of each feature, (d,), over the rows that have it.

    The video's features share one, since cells that are empty in all originals would otherwise amplify any
    noise there.
    """
    present = np.isfinite(features)
    counts = np.maximum(present.sum(axis=0), 1)
    deviation = np.sqrt((np.where(present, features, 0.0) ** 2).sum(axis=0) / counts)
    cells = FEATURE_SIZES[0]
    deviation[:cells] = np.sqrt((deviation[:cells] ** 2).mean())
    return np.maximum(deviation, 1e-6)

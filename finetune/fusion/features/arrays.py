"""Features of a corpus as arrays: one sequence of vectors per modality and clip, with a mask.

They come from a feature pickle of MMSA (`mmsa_pickle`), from a feature file (`file`) or from a store's media
and words (`extract`). Keys, lengths and dimensions are read from the arrays. Values that are not finite are
counted and replaced by the training mean of their dimension. The network standardizes its input with the
training split's statistics.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pipelines.errors import RunError
from pipelines.row import SCALES

NOT_FINITE: dict[str, Any] = {"nan": np.isnan, "+inf": np.isposinf, "-inf": np.isneginf}
SHOWN = 100  # characters of a key or of a library's error in a message
# A deviation below this share of the mean is rounding: such a dimension is constant.
STILL = 1e-6


class FeatureError(RunError):
    """Features that cannot be used. The message names the file, the split and the key or row."""


@dataclass(frozen=True, kw_only=True)
class Sequences:
    """One modality of some clips."""

    values: np.ndarray  # (n, T, d), of any number type as they were read, float32 after `cleaned`
    mask: np.ndarray  # bool (n, T), true where there is a frame


@dataclass(frozen=True, kw_only=True)
class Split:
    """Some clips with their labels and weights."""

    ids: list[str]
    features: dict[str, Sequences]
    labels: np.ndarray  # (n,), float32 after `cleaned`
    unimodal: dict[str, np.ndarray]  # (n,) by modality, NaN without such a label; float32 after `cleaned`
    weights: np.ndarray  # float32 (n,), a clip's weight in training

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, kw_only=True)
class Standard:
    """Mean and standard deviation of each dimension of a modality, over the training split."""

    mean: np.ndarray  # float32 (d,)
    deviation: np.ndarray  # float32 (d,), above 0; 1 for a constant dimension


@dataclass(frozen=True, kw_only=True)
class FeatureSet:
    """A corpus' features, cleaned."""

    splits: dict[str, Split]
    scale: str  # a key of `pipelines.row.SCALES`
    standards: dict[str, Standard]
    not_finite: dict[str, dict[str, int]]  # by modality: how many values were NaN, +inf or -inf


def check_widths(path: str, splits: Mapping[str, Split], keys: Mapping[str, str]) -> None:
    """Refuse splits whose vectors differ in length.

    Args:
        path: The file, for the message.
        splits: What was read from it.
        keys: Its name of each modality.

    Raises:
        FeatureError: Naming the split, the key and both widths.
    """
    for modality, sequences in splits["train"].features.items():
        width = sequences.values.shape[-1]
        for name, split in splits.items():
            found = split.features[modality].values.shape[-1]
            if found != width:
                raise FeatureError(
                    f"{path}: {name}: {keys[modality]} has {found} columns, and that of train has {width};"
                    " extract all splits with the same features"
                )


def checked(where: str, splits: dict[str, Split], scale: str) -> FeatureSet:
    """`cleaned` splits, after a check that their labels are on the scale.

    Raises:
        FeatureError: If they are not, or a modality has no frame in the training split.
    """
    for name, split in splits.items():
        check_labels(f"{where}: {name}", split.ids, split.labels, scale)
        for modality, labels in split.unimodal.items():
            known = np.where(np.isnan(labels), split.labels, labels)  # one that is missing needs no check
            check_labels(f"{where}: {name}: unimodal labels, {modality}", split.ids, known, scale)
    return cleaned(splits, scale)


def check_labels(where: str, ids: list[str], labels: np.ndarray, scale: str) -> None:
    """Refuse a split without clips, and a label that is missing or not on the scale.

    Raises:
        FeatureError: With the row's id.
    """
    low, high = SCALES[scale]
    if not ids:
        raise FeatureError(
            f"{where}: no clip in it; training takes train and valid clips, and reports on test"
        )
    for row_id, label in zip(ids, labels.tolist(), strict=True):
        if not low <= label <= high:
            raise FeatureError(
                f"{where}: {row_id} has the label {label}; the scale {scale} goes from {low:g} to {high:g};"
                " correct the row, or set fusion.scale"
            )


def cleaned(splits: dict[str, Split], scale: str) -> FeatureSet:
    """Convert to float32, and replace values that are not finite by the training split's means.

    Raises:
        FeatureError: If a modality has no frame in the training split.
    """
    splits = {name: _as_float32(split) for name, split in splits.items()}
    standards = {name: _standard(name, sequences) for name, sequences in splits["train"].features.items()}
    filled = {}
    for name, split in splits.items():
        features = {
            key: replace(own, values=np.where(np.isfinite(own.values), own.values, standards[key].mean))
            for key, own in split.features.items()
        }
        filled[name] = replace(split, features=features)
    counts = count_not_finite(splits)
    return FeatureSet(splits=filled, scale=scale, standards=standards, not_finite=counts)


def count_not_finite(splits: Mapping[str, Split]) -> dict[str, dict[str, int]]:
    """By modality, how many values of all splits are NaN, +inf or -inf, padding included."""
    return {
        name: {
            kind: sum(int(test(split.features[name].values).sum()) for split in splits.values())
            for kind, test in NOT_FINITE.items()
        }
        for name in splits["train"].features
    }


def _as_float32(split: Split) -> Split:
    def cast(array: np.ndarray) -> np.ndarray:
        return array.astype(np.float32, copy=False)

    features = {name: replace(own, values=cast(own.values)) for name, own in split.features.items()}
    unimodal = {name: cast(values) for name, values in split.unimodal.items()}
    return replace(split, features=features, labels=cast(split.labels), unimodal=unimodal)


def _standard(name: str, sequences: Sequences) -> Standard:
    shown = sequences.values[sequences.mask].astype(np.float64)  # (frames, d)
    finite = np.isfinite(shown)
    counts = finite.sum(0)
    if not counts.any():
        found = f"{len(shown)} frames without a finite value" if len(shown) else "no frame"
        raise FeatureError(f"{name}: {found} in the training split; leave it out of fusion.modalities")
    mean = np.where(finite, shown, 0).sum(0) / np.maximum(counts, 1)
    squares = np.where(finite, (np.where(finite, shown, 0) - mean) ** 2, 0).sum(0)
    deviation = np.sqrt(squares / np.maximum(counts, 1))
    still = deviation <= STILL * np.abs(mean)
    return Standard(mean=mean.astype(np.float32), deviation=np.where(still, 1, deviation).astype(np.float32))

"""Features of a corpus as arrays: one sequence of vectors per modality and clip, with a mask.

They come from a feature pickle in MMSA's layout (`from_pickle`), from a feature file
(`finetune.fusion.features.file`) or from a store's media and words (`finetune.fusion.features.extract`).
Keys, lengths and dimensions are read from the arrays. Values that are not finite are counted and replaced by
the training mean of their dimension. The network standardizes its input with the training split's statistics.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.errors import RunError, listed, reason
from pipelines.row import SCALES, SPLITS
from pipelines.untrusted import pickles

# MMSA's names of the arrays and of the unimodal labels.
MMSA_KEYS = {"text": "text", "audio": "audio", "video": "vision"}
MMSA_LABELS = {name: f"regression_labels_{letter}" for name, letter in zip(MMSA_KEYS, "TAV", strict=True)}
NOT_FINITE: dict[str, Any] = {"nan": np.isnan, "+inf": np.isposinf, "-inf": np.isneginf}
SHOWN = 100  # characters of a key or of a library's error in a message
_LISTS = (list, tuple, range, np.ndarray)
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


def from_pickle(path: str | Path, modalities: tuple[str, ...], scale: str | None = None) -> FeatureSet:
    """Read a feature pickle in MMSA's layout, aligned or unaligned.

    That is a dict of `train`, `valid` and `test`, each a dict of arrays of n clips: `text`, `audio`,
    `vision` (n, T, d), `regression_labels` (n,) or in older files `labels` (n, 1, 1), `id`, and optionally
    `audio_lengths`, `vision_lengths`, `text_bert` (n, 3, T), whose second row is the mask of the text, and
    `regression_labels_T`, `_A`, `_V`. Without lengths, frames that are all zero count as padding.

    Args:
        path: The file.
        modalities: The modalities to read.
        scale: The labels' scale; None takes `sims` if there are unimodal labels, else `mosi`.

    Raises:
        pickles.PickleError: If the file is refused.
        FeatureError: If it has another layout, or a label is missing or not on the scale.
    """
    splits, own_scale = read_pickle(path, modalities)
    return checked(str(path), splits, scale or own_scale)


def read_pickle(path: str | Path, modalities: tuple[str, ...] | None) -> tuple[dict[str, Split], str]:
    """The arrays of a feature pickle as they are, and the scale assumed for its labels.

    Without `modalities`, those that are there are read.

    Raises:
        pickles.PickleError: If the file is refused.
        FeatureError: If it has another layout.
    """
    content = pickles.load(path)
    is_dict = isinstance(content, dict)
    if not is_dict or not all(isinstance(content.get(name), dict) for name in SPLITS):
        size = f" of {len(content)}" if isinstance(content, list | tuple) else ""
        found = f"a dict of {_keys(content)}" if is_dict else f"a {type(content).__name__}{size}"
        raise FeatureError(
            f"{path}: found {found}; expected a dict with the splits {', '.join(SPLITS)}, each a dict"
        )
    if modalities is None:
        modalities = tuple(name for name, key in MMSA_KEYS.items() if key in content["train"])
        if not modalities:
            raise FeatureError(
                f"{path}: train: found {_keys(content['train'])}; expected at least one of"
                f" {', '.join(MMSA_KEYS.values())}"
            )
    splits = {name: _mmsa_split(f"{path}: {name}", content[name], modalities) for name in SPLITS}
    check_widths(str(path), splits, MMSA_KEYS)
    train = content["train"]
    unimodal = (_numbers(key, train[key]) for key in MMSA_LABELS.values() if key in train)
    return splits, "sims" if any(np.isfinite(values).any() for values in unimodal) else "mosi"


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


def _mmsa_split(where: str, arrays: Mapping[str, Any], modalities: tuple[str, ...]) -> Split:
    key = next((name for name in ("regression_labels", "labels") if name in arrays), None)
    if key is None:
        raise FeatureError(f"{where}: neither regression_labels nor labels in it; found {_keys(arrays)}")
    labels = _numbers(f"{where}: {key}", arrays[key]).reshape(-1)
    own_ids = arrays.get("id", range(len(labels)))
    is_scalar = isinstance(own_ids, np.ndarray) and own_ids.ndim == 0
    if is_scalar or not isinstance(own_ids, _LISTS):
        raise FeatureError(f"{where}: id is a {type(own_ids).__name__}; expected a list of one per clip")
    ids = [_text_of(value) for value in own_ids]
    if len(ids) != len(labels):
        raise FeatureError(f"{where}: {len(ids)} ids and {len(labels)} labels; expected one of each per clip")
    return Split(
        ids=ids,
        features={name: _mmsa_sequences(where, arrays, name, len(labels)) for name in modalities},
        labels=labels,
        unimodal={name: _unimodal(where, arrays, name, len(labels)) for name in modalities},
        weights=np.ones(len(labels), dtype=np.float32),
    )


def _unimodal(where: str, arrays: Mapping[str, Any], name: str, count: int) -> np.ndarray:
    key = MMSA_LABELS[name]
    if key not in arrays:
        return np.full(count, np.nan, dtype=np.float32)
    values = _numbers(f"{where}: {key}", arrays[key]).reshape(-1)
    if len(values) != count:
        raise FeatureError(f"{where}: {key} has {len(values)} values for {count} clips")
    return values


def _mmsa_sequences(where: str, arrays: Mapping[str, Any], name: str, count: int) -> Sequences:
    key = MMSA_KEYS[name]
    if key not in arrays:
        raise FeatureError(
            f"{where}: no {key!r} in it; found {_keys(arrays)}; leave {name} out of fusion.modalities"
        )
    values = _numbers(f"{where}: {key}", arrays[key])
    if values.ndim != 3 or len(values) != count:
        expected = f"({count} clips, steps, dimensions)"
        raise FeatureError(f"{where}: {key} has the shape {values.shape}; expected {expected}")
    return Sequences(values=values, mask=_mmsa_mask(where, arrays, key, values))


def _mmsa_mask(where: str, arrays: Mapping[str, Any], key: str, values: np.ndarray) -> np.ndarray:
    count, steps, _ = values.shape
    if f"{key}_lengths" in arrays:
        lengths = _numbers(f"{where}: {key}_lengths", arrays[f"{key}_lengths"]).reshape(-1)
        if len(lengths) != count or (lengths < 0).any() or (lengths > steps).any():
            raise FeatureError(f"{where}: {key}_lengths does not fit {count} clips of at most {steps} steps")
        return np.arange(steps) < lengths[:, None]
    if key == "text" and isinstance(arrays.get("text_bert"), _LISTS):
        tokens = _numbers(f"{where}: text_bert", arrays["text_bert"])
        if tokens.shape == (count, 3, steps):
            return tokens[:, 1] > 0
    return (values != 0).any(-1)


def _numbers(where: str, value: Any) -> np.ndarray:
    """As an array of its own number type in native byte order; other types become float32."""
    try:
        # Of text, numpy would make every value as long as the longest.
        array = np.asarray(value, dtype=object if _has_text(value) else None)
        if array.dtype.kind in "fiu" and array.itemsize <= 8:
            return array.astype(array.dtype.newbyteorder("="), copy=False)
        return array.astype(np.float32)
    except (TypeError, ValueError) as error:
        raise FeatureError(f"{where}: not an array of numbers ({reason(error)[:SHOWN]})") from error


def _has_text(value: Any) -> bool:
    """Whether a list has text in it, at any depth."""
    if isinstance(value, list | tuple):
        return any(map(_has_text, value))
    return isinstance(value, str | bytes) or (isinstance(value, np.ndarray) and value.dtype.kind in "US")


def _text_of(value: Any) -> str:
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if isinstance(value, _LISTS):  # [video, start, end] in older files
        return "/".join(_text_of(part) for part in value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    # Half a character, which a pickle may hold, cannot be written anywhere.
    return str(value).encode("utf-8", "backslashreplace").decode("utf-8")


def _keys(content: Mapping[Any, Any]) -> str:
    return listed((str(key)[:SHOWN] for key in content), most=20)

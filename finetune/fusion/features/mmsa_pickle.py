"""Feature pickles in the layout of MMSA, aligned or unaligned. No code in a pickle is executed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from finetune.fusion.features.arrays import (
    SHOWN,
    FeatureError,
    FeatureSet,
    Sequences,
    Split,
    check_widths,
    checked,
)
from pipelines.errors import listed, reason
from pipelines.row import SPLITS
from pipelines.untrusted import pickles

# MMSA's names of the arrays and of the unimodal labels.
KEYS = {"text": "text", "audio": "audio", "video": "vision"}
LABELS = {name: f"regression_labels_{letter}" for name, letter in zip(KEYS, "TAV", strict=True)}
_LISTS = (list, tuple, range, np.ndarray)


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
    splits, own_scale = arrays_of(path, modalities)
    return checked(str(path), splits, scale or own_scale)


def arrays_of(path: str | Path, modalities: tuple[str, ...] | None) -> tuple[dict[str, Split], str]:
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
        modalities = tuple(name for name, key in KEYS.items() if key in content["train"])
        if not modalities:
            raise FeatureError(
                f"{path}: train: found {_keys(content['train'])}; expected at least one of"
                f" {', '.join(KEYS.values())}"
            )
    splits = {name: _split(f"{path}: {name}", content[name], modalities) for name in SPLITS}
    check_widths(str(path), splits, KEYS)
    train = content["train"]
    unimodal = (_numbers(key, train[key]) for key in LABELS.values() if key in train)
    return splits, "sims" if any(np.isfinite(values).any() for values in unimodal) else "mosi"


def _split(where: str, arrays: Mapping[str, Any], modalities: tuple[str, ...]) -> Split:
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
        features={name: _sequences(where, arrays, name, len(labels)) for name in modalities},
        labels=labels,
        unimodal={name: _unimodal(where, arrays, name, len(labels)) for name in modalities},
        weights=np.ones(len(labels), dtype=np.float32),
    )


def _unimodal(where: str, arrays: Mapping[str, Any], name: str, count: int) -> np.ndarray:
    key = LABELS[name]
    if key not in arrays:
        return np.full(count, np.nan, dtype=np.float32)
    values = _numbers(f"{where}: {key}", arrays[key]).reshape(-1)
    if len(values) != count:
        raise FeatureError(f"{where}: {key} has {len(values)} values for {count} clips")
    return values


def _sequences(where: str, arrays: Mapping[str, Any], name: str, count: int) -> Sequences:
    key = KEYS[name]
    if key not in arrays:
        raise FeatureError(
            f"{where}: no {key!r} in it; found {_keys(arrays)}; leave {name} out of fusion.modalities"
        )
    values = _numbers(f"{where}: {key}", arrays[key])
    if values.ndim != 3 or len(values) != count:
        expected = f"({count} clips, steps, dimensions)"
        raise FeatureError(f"{where}: {key} has the shape {values.shape}; expected {expected}")
    return Sequences(values=values, mask=_mask(where, arrays, key, values))


def _mask(where: str, arrays: Mapping[str, Any], key: str, values: np.ndarray) -> np.ndarray:
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

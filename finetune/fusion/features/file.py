"""Feature files: a corpus' features as one safetensors file, which can be read without executing code.

For each split of train, valid and test:

    <split>/labels                float (n,)
    <split>/weights               float (n,), a clip's weight in training
    <split>/<modality>/values     (n, T, d), for each of text, audio and video that there is, unchanged, with
                                  values that are not finite
    <split>/<modality>/mask       bool (n, T), true where there is a step
    <split>/<modality>/labels     float (n,), NaN if a clip has no unimodal label

Other tensors are not read. The file's metadata has, under `METADATA_KEY`, a JSON object: `version`, `scale`,
the `ids` of each split, the `failures` of rows without features, the counts of values that are `not_finite`,
`about`, the origin of the features, the CRC-32 of each tensor as `checksums`, and its own `sha256`. Files of
earlier versions have neither of the last two.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from finetune.fusion.features import arrays
from finetune.fusion.features.arrays import FeatureError, FeatureSet, Split, checked, count_not_finite
from finetune.objective import check_weights
from pipelines.atomic import replacing
from pipelines.errors import UsageError
from pipelines.provenance import versions
from pipelines.row import MODALITIES, SCALES, SPLITS
from pipelines.running.machine_faults import refuse_fault
from pipelines.running.outputs import check_file
from pipelines.store_files.checksums import sealed, unsealed
from pipelines.untrusted.plain_json import parsed_json

SUFFIX = ".safetensors"
METADATA_KEY = "daq_msa_features"
VERSION = 1
PACKAGES = ("daq-msa", "numpy", "safetensors", "torch", "transformers")

Failures = list[dict[str, Any]]


def write(
    path: Path,
    splits: Mapping[str, Split],
    *,
    scale: str,
    about: dict[str, Any],
    failures: Sequence[dict[str, Any]] = (),
    more: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Write a feature file, whole or not at all.

    Args:
        path: The file.
        splits: The features; they are stored as they are.
        scale: The labels' scale.
        about: The features' origin, as JSON.
        failures: The failures of rows without features.
        more: Tensors beside the features, by name.
    """
    from safetensors.numpy import save_file

    tensors = dict(more or {})
    for name, split in splits.items():
        tensors |= {f"{name}/labels": split.labels, f"{name}/weights": split.weights}
        for modality, own in split.features.items():
            start = f"{name}/{modality}"
            tensors |= {f"{start}/values": own.values, f"{start}/mask": own.mask}
            tensors[f"{start}/labels"] = split.unimodal[modality]
    content = {
        "version": VERSION,
        "scale": scale,
        "ids": {name: split.ids for name, split in splits.items()},
        "failures": list(failures),
        "not_finite": count_not_finite(splits),
        "about": about | {"versions": versions(PACKAGES)},
    }
    contiguous = {key: np.ascontiguousarray(value) for key, value in tensors.items()}
    content["checksums"] = {key: _checksum(value) for key, value in contiguous.items()}
    metadata = {METADATA_KEY: json.dumps(sealed(content), ensure_ascii=False)}
    with replacing(path) as temporary:
        save_file(contiguous, temporary, metadata=metadata)


def from_file(
    path: str | Path, modalities: tuple[str, ...], scale: str | None = None
) -> tuple[FeatureSet, Failures]:
    """Read a feature file.

    Returns:
        The features, on the file's scale unless another is given, and the failures of rows without features.

    Raises:
        FeatureError: If it is no feature file, is damaged, lacks a modality, or a label is not on the scale.
        finetune.objective.WeightError: If a training clip has no usable weight.
    """
    return usable(path, *read(path, modalities), scale)


def usable(
    path: str | Path, content: dict[str, Any], splits: dict[str, Split], scale: str | None
) -> tuple[FeatureSet, Failures]:
    """What `from_file` returns, of what `read` does.

    Raises:
        FeatureError: If a label is not on the scale, or a split is empty.
        finetune.objective.WeightError: If a training clip has no usable weight.
    """
    check_weights(path, splits["train"].ids, splits["train"].weights.tolist())
    return checked(str(path), splits, scale or content["scale"]), content["failures"]


def read(path: str | Path, modalities: tuple[str, ...]) -> tuple[dict[str, Any], dict[str, Split]]:
    """A feature file's metadata and its arrays as they are.

    Raises:
        FeatureError: If it is no feature file, is damaged, or lacks a modality.
        MachineFault: If this machine lacks memory or handles, or its disk fails.
    """
    from safetensors import SafetensorError, safe_open

    try:
        Path(path).open("rb").close()  # its errors have numbers, and those of safetensors have none
        with safe_open(path, framework="numpy") as file:
            content = _metadata(str(path), file.metadata())
            tensors = _Tensors(str(path), file, content.get("checksums", {}))
            splits = {name: _split(tensors, name, content["ids"][name], modalities) for name in SPLITS}
    except (OSError, SafetensorError) as error:
        refuse_fault(error, f"{path}: cannot be read")
        raise FeatureError(
            f"{path}: not a whole safetensors file ({error}); make it again by `daq-msa convert`"
        ) from error
    arrays.check_widths(str(path), splits, {name: name for name in modalities})
    return content, splits


def checked_out(out: Path, source: dict[str, Path], *, overwrite: bool) -> Path:
    """The path, if a feature file can be written there.

    Raises:
        UsageError: If it has another suffix, by which no reader would recognize it, is a folder or in the
            source, which an option names, or exists and is not to be replaced.
    """
    if out.suffix != SUFFIX:
        raise UsageError(
            f"--out: {out}: found the suffix {out.suffix!r}; it takes the path of a file that ends in"
            f" {SUFFIX}"
        )
    check_file(out, source, overwrite=overwrite)
    return out


def named(source: Path) -> dict[str, str]:
    """A source file of features, described by its name and its content's SHA-256."""
    with source.open("rb") as file:
        return {"file": source.name, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _metadata(path: str, metadata: Mapping[str, str] | None) -> dict[str, Any]:
    """The metadata of a feature file, checked."""
    if METADATA_KEY not in (metadata or {}):
        raise FeatureError(
            f"{path}: a safetensors file without {METADATA_KEY} in its metadata, so no features; make a"
            " feature file by `daq-msa convert` or `python -m finetune.fusion.features.extract`"
        )
    try:
        content = unsealed(parsed_json((metadata or {})[METADATA_KEY]))
    except ValueError as error:
        raise FeatureError(f"{path}: {METADATA_KEY} in its metadata is damaged ({error})") from error
    if content.get("version") != VERSION:
        found = repr(content.get("version"))[: arrays.SHOWN]
        raise FeatureError(f"{path}: a feature file of version {found}; this program reads {VERSION}")
    if content.get("scale") not in list(SCALES) or not isinstance(content.get("failures"), list):
        raise FeatureError(
            f"{path}: {METADATA_KEY} has the scale {repr(content.get('scale'))[: arrays.SHOWN]}; expected one"
            f" of {', '.join(SCALES)}, and a list of failures"
        )
    by_split = content.get("ids")
    for split in SPLITS:
        ids = by_split.get(split) if isinstance(by_split, dict) else None
        if not isinstance(ids, list) or not all(isinstance(each, str) for each in ids):
            raise FeatureError(
                f"{path}: {split}: found {type(ids).__name__} for ids; expected a list of strings"
            )
    return content


def _checksum(array: np.ndarray) -> str:
    return f"{zlib.crc32(array.reshape(-1).view(np.uint8).data):08x}"


class _Tensors:
    """The tensors of an open file, each checked as it is read."""

    def __init__(self, path: str, file: Any, checksums: Mapping[str, str]) -> None:
        self.path, self.file, self.checksums = path, file, checksums
        self.names = set(file.keys())

    def get(self, name: str, shape: tuple[int | None, ...], kinds: str = "fiu") -> np.ndarray:
        """A tensor of this shape, where None is any size, and of a dtype of these kinds."""
        if name not in self.names:
            raise FeatureError(f"{self.path}: no tensor {name} in it; the file is not a whole feature file")
        value: np.ndarray = self.file.get_tensor(name)
        if self.checksums.get(name, _checksum(value)) != _checksum(value):
            raise FeatureError(
                f"{self.path}: damaged: {name} has other content than was written; make the file again"
            )
        fits = len(value.shape) == len(shape) and all(
            side in (None, own) for side, own in zip(shape, value.shape, strict=False)
        )
        if not fits or value.dtype.kind not in kinds:
            sides = ", ".join("any" if side is None else str(side) for side in shape)
            raise FeatureError(
                f"{self.path}: {name} is {value.dtype} {value.shape}; expected"
                f" {'bool' if kinds == 'b' else 'numbers'} ({sides})"
            )
        return value


def _split(tensors: _Tensors, split: str, ids: list[str], modalities: tuple[str, ...]) -> Split:
    count = len(ids)
    for name in modalities:
        if f"{split}/{name}/values" not in tensors.names:
            there = [each for each in MODALITIES if f"{split}/{each}/values" in tensors.names]
            raise FeatureError(
                f"{tensors.path}: {split}: no {name} in it; found {', '.join(there) or 'no modality'};"
                f" leave {name} out of fusion.modalities"
            )
    return Split(
        ids=ids,
        features={name: _sequences(tensors, f"{split}/{name}", count) for name in modalities},
        labels=tensors.get(f"{split}/labels", (count,)),
        unimodal={name: tensors.get(f"{split}/{name}/labels", (count,)) for name in modalities},
        weights=tensors.get(f"{split}/weights", (count,)),
    )


def _sequences(tensors: _Tensors, name: str, count: int) -> arrays.Sequences:
    values = tensors.get(f"{name}/values", (count, None, None))
    return arrays.Sequences(values=values, mask=tensors.get(f"{name}/mask", values.shape[:2], kinds="b"))

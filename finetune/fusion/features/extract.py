"""Features of a store's clips, made once: `python -m finetune.fusion.features.extract --data STORE
--out FILE`.

`from_store` caches features as a feature file (`finetune.fusion.features.file`), under a key of everything
that they depend on, so that the next run extracts nothing. The command writes such a file in advance, for
`python -m finetune.fusion --data FILE`. Rows whose media cannot be read are recorded in it as failures. The
encoders are in `finetune.fusion.features.encoders`.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from finetune.fusion.features import file
from finetune.fusion.features.arrays import FeatureError, FeatureSet, Sequences, Split, check_labels, checked
from finetune.fusion.features.encoders import BUILT_IN, Encoder, load_encoders
from finetune.fusion.features.file import Failures
from finetune.fusion.settings import ExtractSettings, FusionConfig
from finetune.inputs.scales import common_scale
from finetune.objective import check_weights
from pipelines import media
from pipelines.device import share
from pipelines.errors import RunError, call
from pipelines.provenance import folder_digest
from pipelines.row import SPLITS, Row, digest
from pipelines.settings import Invocation, parse_stage
from pipelines.store import StoreReader, committed_generation

WAIT_S = 0.5  # between two looks for the file that the first process writes
# Settings that change no feature.
FREE = ("device", "batch_size")


def main(argv: list[str]) -> None:
    """Extract a store's features into a file."""
    program = "python -m finetune.fusion.features.extract"
    print(extract(parse_stage(FusionConfig, "fusion", argv, prog=program)))


def extract(invocation: Invocation[FusionConfig]) -> str:
    """Write the features of `--data` to `--out`; returns a one-line summary.

    Raises:
        UsageError: If an encoder cannot be loaded, or `--out` cannot be a feature file.
        RunError: If rows cannot be used, or more failed than `--max-failures`.
    """
    config, source = invocation.config, {"--data": invocation.data}
    out = file.checked_out(invocation.out, source, overwrite=invocation.overwrite)
    store = _Store(invocation.data, config.scale)
    failures = _written(out, store, config.modalities, config.extract)[1]
    failed = f"{len(failures)} rows failed"
    if invocation.max_failures is not None and len(failures) > invocation.max_failures:
        raise RunError(f"{out}: {failed}, --max-failures is {invocation.max_failures}")
    return f"{out}: features of {len(store.chosen) - len(failures)} rows, {failed}"


def from_store(
    directory: str | Path,
    modalities: tuple[str, ...],
    settings: ExtractSettings,
    scale: str | None = None,
    cache: Path | None = None,
) -> tuple[FeatureSet, Failures]:
    """The features of a store: all rows of train, the originals of valid and test.

    Args:
        directory: The store.
        modalities: The modalities to encode.
        settings: The encoders.
        scale: The labels' scale; None takes the store's.
        cache: The folder of cached features; None caches nothing. The first of several processes fills it,
            and the others wait.

    Returns:
        The features, and the failures of the rows whose media cannot be read.

    Raises:
        UsageError: If an encoder cannot be loaded.
        RunError: If rows have several scales, also if `scale` is given.
        FeatureError: If labels are not on the scale, or a split is empty.
        finetune.objective.WeightError: If a training row has no usable weight.
    """
    store = _Store(Path(directory), scale)
    if cache is None:
        splits, failures = _extracted(store, modalities, load_encoders(modalities, settings))
        return checked(str(directory), splits, store.scale), failures
    path = cache / f"{_key(store, modalities, settings)}{file.SUFFIX}"
    return file.usable(path, *_kept(path, store, modalities, settings), store.scale)


def _kept(
    path: Path, store: _Store, modalities: tuple[str, ...], settings: ExtractSettings
) -> tuple[dict[str, Any], dict[str, Split]]:
    """The cached features, which the first process extracts if they are missing or damaged."""
    made = False
    while True:
        try:
            return file.read(path, modalities)
        except FeatureError as error:
            if made:
                raise
            if share().rank:
                time.sleep(WAIT_S)
                continue
            if path.is_file():
                print(f"fusion: {str(error).partition(';')[0]}; its features are extracted again", flush=True)
            _written(path, store, modalities, settings)
            made = True


class _Store:
    """The rows of a store whose features are extracted, checked before anything is decoded.

    Attributes:
        chosen: All rows of train and the originals of valid and test, without media.
        scale: The scale of their labels.
    """

    def __init__(self, directory: Path, scale: str | None) -> None:
        self.directory, self.reader = directory, StoreReader(directory)
        columns = ["id", "kind", "split", "scale", "weight", "label"]
        table = self.reader.table.select(columns).to_pylist()
        self.chosen = [row for row in table if row["split"] == "train" or row["kind"] == "original"]
        own = common_scale(self.reader, (row["id"] for row in self.chosen)) if self.chosen else "mosi"
        self.scale = scale or own
        training = [row for row in self.chosen if row["split"] == "train"]
        check_weights(directory, [row["id"] for row in training], [row["weight"] for row in training])
        for split in SPLITS:
            rows = [row for row in self.chosen if row["split"] == split]
            ids, labels = [row["id"] for row in rows], _column(rows, "label")
            check_labels(f"{directory}: {split}", ids, labels, self.scale)


def _key(store: _Store, modalities: tuple[str, ...], settings: ExtractSettings) -> str:
    """The digest of everything that features depend on, including the content of model folders."""
    own = {name: value for name, value in asdict(settings).items() if name not in FREE}
    folders = [Path(own[name]) for name in sorted(modalities) if own[name] != BUILT_IN[name]]
    return digest(
        {
            "version": file.VERSION,
            "store": committed_generation(store.directory),
            "scale": store.scale,
            "modalities": sorted(modalities),
            "settings": own,
            "folders": [folder_digest(folder) for folder in folders if folder.is_dir()],
        }
    )


def _written(
    path: Path, store: _Store, modalities: tuple[str, ...], settings: ExtractSettings
) -> tuple[dict[str, Split], Failures]:
    encoders = load_encoders(modalities, settings)
    splits, failures = _extracted(store, modalities, encoders)
    about = {
        "made_by": "finetune.fusion.features.extract",
        "store": committed_generation(store.directory),
        "encoders": {name: encoder.origin for name, encoder in encoders.items()},
        "settings": asdict(settings),
    }
    file.write(path, splits, scale=store.scale, about=about, failures=failures)
    return splits, failures


def _extracted(
    store: _Store, modalities: tuple[str, ...], encoders: dict[str, Encoder]
) -> tuple[dict[str, Split], Failures]:
    from tqdm import tqdm

    rows: dict[str, list[Row]] = {split: [] for split in SPLITS}
    failures: Failures = []
    known: dict[tuple[str, bytes], np.ndarray | None] = {}
    clips = store.reader.rows(row["id"] for row in store.chosen)
    for row in tqdm(clips, total=len(store.chosen), desc="features", unit="clip", disable=None):
        try:
            rows[row["split"]].append(_features(row, encoders, known))
        except media.MediaError as error:
            failure = {"id": row["id"], "stage": "fusion", "error": "MediaError", "message": str(error)}
            failures.append(failure)
    return {split: _stacked(chosen, modalities) for split, chosen in rows.items()}, failures


def _features(
    row: Row, encoders: dict[str, Encoder], known: dict[tuple[str, bytes], np.ndarray | None]
) -> Row:
    """What training needs of a row, with features instead of media and words.

    Variants share words and media with their original, so what is `known` is not encoded again.
    """
    features = {}
    for name, encoder in encoders.items():
        content = row[name]["bytes"] if isinstance(row[name], dict) else (row[name] or "").encode()
        key = (name, hashlib.sha256(content).digest())
        if key not in known:
            known[key] = encoder.encode(row)
        features[name] = known[key]
    kept = ("id", "label", "weight", *(f"label_{name}" for name in features))
    return {key: row[key] for key in kept} | features


def _stacked(rows: list[Row], modalities: tuple[str, ...]) -> Split:
    return Split(
        ids=[row["id"] for row in rows],
        features={name: padded([row[name] for row in rows]) for name in modalities},
        labels=_column(rows, "label"),
        unimodal={name: _column(rows, f"label_{name}") for name in modalities},
        weights=_column(rows, "weight"),
    )


def _column(rows: list[Row], key: str) -> np.ndarray:
    """A column as float32 (n,), NaN for null."""
    return np.array([np.nan if row[key] is None else row[key] for row in rows], dtype=np.float32)


def padded(sequences: list[np.ndarray | None]) -> Sequences:
    """Sequences (T_i, d) of one d, None for an empty one, padded to one array with its mask."""
    present = [sequence for sequence in sequences if sequence is not None]
    steps = max((len(sequence) for sequence in present), default=1)
    dimensions = present[0].shape[1] if present else 1
    values = np.zeros((len(sequences), steps, dimensions), dtype=np.float32)
    mask = np.zeros((len(sequences), steps), dtype=bool)
    for index, sequence in enumerate(sequences):
        if sequence is not None:
            values[index, : len(sequence)] = sequence
            mask[index, : len(sequence)] = True
    return Sequences(values=values, mask=mask)


if __name__ == "__main__":
    call(main)

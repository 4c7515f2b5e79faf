"""What a run's folder holds: of which settings and data its networks are, and which seeds are finished."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from finetune.fusion.settings import FusionConfig
from finetune.training.agreement import agreed
from pipelines.atomic import DamagedFile
from pipelines.durable.checkpoints import MARKER, read_json_object, seal, whole
from pipelines.errors import RunError, UsageError
from pipelines.row import digest
from pipelines.store import committed_generation, is_store
from pipelines.store_files.checksums import write_sealed

if TYPE_CHECKING:
    from pipelines.settings import Invocation

# Settings that do not change a seed's result, so a run may continue with other values.
FREE = ("seeds", "feature_cache")
CHECKPOINT = "checkpoint.pt"
CLAIM = "claim.json"
"""In a seed's folder: the digest of what its result depends on."""
SEED = ("model.safetensors", "history.jsonl", "steps.parquet", "predictions.parquet", "metrics.json")
SUMMARY = ("model.safetensors", "predictions.parquet", "metrics.json", "failures.jsonl", "config.json")


def claimed(invocation: Invocation[FusionConfig]) -> str:
    """The digest of everything that a seed's result depends on; to be called in all processes.

    Raises:
        UsageError: If the output folder was written with another one, and is not to be overwritten.
    """
    config = replace(invocation.config, training=replace(invocation.config.training, trackers=()))
    settings = {name: value for name, value in asdict(config).items() if name not in FREE}
    fingerprint = digest({"settings": settings, "data": data_digest(invocation.data)})
    agreed(lambda: _claim(invocation.out, fingerprint, overwrite=invocation.overwrite))
    return fingerprint


def _claim(out: Path, fingerprint: str, *, overwrite: bool) -> None:
    """Refuse a folder with networks of other settings or data, or remove them."""
    path, seeds = out / "config.json", sorted(out.glob("seed-*"))
    try:
        before = read_json_object(path).get("fingerprint") if path.exists() or seeds else fingerprint
    except DamagedFile as error:
        before = _claim_of_seeds(seeds) if seeds else fingerprint
        print(f"fusion: {error}; it is written again", flush=True)
    if before == fingerprint:
        return
    held = f"networks of {len(seeds)} seed(s)"
    if not overwrite:
        raise UsageError(
            f"--out: {out} holds {held} of other settings or data; --overwrite replaces them, or take another"
            " folder"
        )
    print(f"fusion: replaces {held} in {out}", flush=True)
    for seed in seeds:
        shutil.rmtree(seed)
    for name in (MARKER, *SUMMARY):
        (out / name).unlink(missing_ok=True)


def claim(seed: Path, fingerprint: str) -> None:
    """Say in a seed's folder what its result depends on, unless it is said there."""
    content = {"fingerprint": fingerprint}
    with suppress(DamagedFile):
        if read_json_object(seed / CLAIM) == content:
            return
    write_sealed(seed / CLAIM, content)


def _claim_of_seeds(seeds: Sequence[Path]) -> str | None:
    """The digest that a finished seed or one in training was made with; None if none says it."""
    for seed in seeds:
        try:
            return str(read_json_object(seed / CLAIM)["fingerprint"])
        except DamagedFile:
            continue
    return None


def data_digest(data: Path) -> str:
    """A hex digest of the content of a store or a file.

    Raises:
        RunError: If it is neither.
    """
    if is_store(data):
        return str(committed_generation(data))
    try:
        with data.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise RunError(
            f"--data: {data} is neither a store nor a file of features ({error.strerror})"
        ) from error


def finished(folder: Path) -> bool:
    """Whether a seed's training has ended, and its files are as they were written.

    Seeds of earlier versions have no marker, and no checkpoint once they have ended. So it is with one whose
    marker alone is lost.
    """
    if not (folder / MARKER).exists() and not (folder / CHECKPOINT).exists():
        return (folder / "metrics.json").is_file()
    try:
        whole(folder)
    except DamagedFile as error:
        if (folder / MARKER).exists():
            print(f"fusion: {error}; the seed is trained again", flush=True)
        return False
    return True


def vouch(folder: Path) -> None:
    """Write the marker of a finished seed that has none."""
    if not (folder / MARKER).exists():
        seal(folder, names=[name for name in SEED if (folder / name).is_file()])

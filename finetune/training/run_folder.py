"""What a run's folder holds: which run was begun there, and whether that is finished.

`run_config.json` says what is trained in a folder, so that nothing else is continued in it. Each checkpoint
and `model.json` say it too, for a folder in which that file is broken.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from finetune.model.regressor import ADAPTER_CONFIG, ADAPTER_FILE, HEAD_FILE
from finetune.model.saved_model import CARD, RECORD, RESULTS, current
from finetune.settings import FinetuneConfig
from finetune.training.resuming import newest_complete_checkpoint
from pipelines.atomic import DamagedFile, write_json
from pipelines.durable.checkpoints import MARKER, read_json_object, verify
from pipelines.errors import UsageError
from pipelines.settings import Invocation
from pipelines.store import committed_generation

RUN_CONFIG = "run_config.json"
RUN_CONFIG_0_1 = "begun.json"
"""Its name up to version 0.1.0."""
RESUMABLE_KEYS = ("cache_mb", "device", "save_every", "tower_cache", "trackers")
"""Settings that may change between a run and its resumption."""
CHECKPOINTS = "checkpoints"
BEGUN = "a run without a checkpoint"
# What a run writes, but for the outputs of towers, which other settings can use. Removed in this order: until
# all is gone, the folder says whose it was.
WRITTEN = (
    RECORD, *RESULTS, "comparison.json", CARD, ADAPTER_FILE, ADAPTER_CONFIG, HEAD_FILE, "log.jsonl",
    "status.json", CHECKPOINTS, RUN_CONFIG_0_1, RUN_CONFIG,
)  # fmt: skip


def claim_of(invocation: Invocation[FinetuneConfig]) -> dict[str, Any]:
    """What a command trains: the store's generation, the seed, and the settings that matter."""
    settings = json.loads(json.dumps(asdict(invocation.config)))  # as JSON gives them back
    fixed = {name: value for name, value in settings.items() if name not in RESUMABLE_KEYS}
    return {"data": committed_generation(invocation.data), "seed": invocation.seed, **fixed}


def claim_folder(out: Path, claim: dict[str, Any], *, overwrite: bool) -> None:
    """Note in the folder what is trained there; to be called in the first process.

    Args:
        out: The run's folder.
        claim: From `claim_of`.
        overwrite: Whether what another run left there is removed.

    Raises:
        UsageError: If another run was begun there, or files of other making are there, and are not to be
            replaced; names the settings that differ.
    """
    begun = _begun(out)
    changes = [
        f"{name} was {begun.get(name)} and is {value}"
        for name, value in claim.items()
        if begun and begun.get(name) != value
    ]
    if changes or not begun:
        own = _held(out) or (BEGUN if begun else None)
        held = own or _foreign(out)
        if held and not overwrite:
            other = f"other settings ({', '.join(changes)})" if changes else "settings that no file tells"
            of = f" with {other}" if own else ""
            raise UsageError(
                f"--out: {out} holds {held}{of}; --overwrite replaces it, or choose another folder"
            )
        if held:
            print(f"finetune: replaces {held} in {out}", flush=True)
            for name in WRITTEN:
                _remove(out / name)
    if not _readable(out / RUN_CONFIG) and not _readable(out / RUN_CONFIG_0_1):
        write_json(out / RUN_CONFIG, claim)


def finished(out: Path) -> bool:
    """Whether the folder holds a finished run, all its files as they were written.

    If one is broken, says so; the run is then finished anew. Records of earlier versions vouch for no files.
    """
    if not (out / RECORD).exists():
        return False
    try:
        files = read_json_object(out / RECORD).get("files", {})
        verify(out, files)
    except DamagedFile as error:
        print(f"finetune: {error}; it is made again", flush=True)
        files = {}
    if not files:
        (out / RECORD).unlink()
    return bool(files)


def _begun(out: Path) -> dict[str, Any]:
    """What is trained in a folder, as the first intact file says that knows; empty if none does."""
    for name in (RUN_CONFIG, RUN_CONFIG_0_1):
        if (out / name).exists():
            try:
                return current(read_json_object(out / name))
            except DamagedFile as error:
                print(f"finetune: {error}; it is written again", flush=True)
    newest = newest_complete_checkpoint(out / CHECKPOINTS)
    claim = read_json_object(newest / MARKER).get("run") if newest else None
    if claim is None and _readable(out / RECORD):
        record = read_json_object(out / RECORD)
        claim = {"seed": record.get("seed"), **(record.get("inputs") or {}), **(record.get("config") or {})}
    return current(claim) if claim else {}


def _held(out: Path) -> str | None:
    """What a run has left in a folder, in words."""
    if (out / RECORD).exists():
        return "a finished model"
    newest = newest_complete_checkpoint(out / CHECKPOINTS)
    return f"a training with {newest.name}" if newest else None


def _foreign(out: Path) -> str | None:
    """A file that a run would replace, in a folder where none was begun; None if there is none."""
    if any((out / name).exists() for name in (RUN_CONFIG, RUN_CONFIG_0_1)):
        return None  # ours, and broken
    return next((f"a {name} that no run wrote" for name in WRITTEN if (out / name).exists()), None)


def _readable(path: Path) -> bool:
    try:
        read_json_object(path)
    except DamagedFile:
        return False
    return True


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)

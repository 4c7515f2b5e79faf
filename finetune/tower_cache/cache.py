"""Outputs of frozen towers on disk: a clip is decoded, processed and seen once, and not once an epoch.

An entry is a few tensors under a key, the digest of all that they depend on: the medium's content,
the model, and how much of a clip it is shown. Entries lie in shards, safetensors files that are
memory-mapped when they are read. A shard is written beside its place and renamed into it; what was
not written when a run was killed is computed again. Several processes may fill the same folder.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from pipelines.atomic import replacing
from pipelines.row import digest

SHARD_BYTES = 64 * 2**20
"""A shard is written once so much has come together."""

Entry = dict[str, torch.Tensor]


class TowerCache:
    """Entries by key, those in the folder and those that wait to be written.

    Args:
        directory: The folder; made if it is missing.
        identity: What every entry depends on, as JSON can hold it.
    """

    def __init__(self, directory: Path, identity: Any) -> None:
        self.directory, self.identity = directory, identity
        directory.mkdir(parents=True, exist_ok=True)
        self.asked: Counter[str] = Counter()
        """How often an entry was `found` and how often it was `missing`."""
        self._where: dict[str, Path] = {}
        self._names: dict[str, list[str]] = {}
        self._open: dict[Path, Any] = {}
        self._waiting: dict[str, Entry] = {}
        self._waiting_bytes = 0
        self.refresh()

    def key(self, kind: str, content: bytes) -> str:
        """The key of what a tower makes of a medium.

        Args:
            kind: `video` or `audio`.
            content: The encoded medium.
        """
        return digest([kind, hashlib.sha256(content).hexdigest(), self.identity])

    def refresh(self) -> None:
        """Take in the shards that other processes have written since the last look."""
        from safetensors import safe_open

        for path in sorted(set(self.directory.glob("*.safetensors")) - set(self._open)):
            self._open[path] = safe_open(path, framework="pt")
            for full in self._open[path].keys():  # noqa: SIM118 - not a dict
                key, _, name = full.partition("/")
                self._where[key] = path
                self._names.setdefault(key, []).append(name)

    def get(self, key: str) -> Entry | None:
        """The entry of a key, its tensors on the CPU; None where there is none."""
        if key in self._waiting:
            self.asked["found"] += 1
            return self._waiting[key]
        if key not in self._where:
            self.refresh()
        if key not in self._where:
            self.asked["missing"] += 1
            return None
        self.asked["found"] += 1
        shard = self._open[self._where[key]]
        return {name: shard.get_tensor(f"{key}/{name}") for name in set(self._names[key])}

    def put(self, key: str, entry: Mapping[str, torch.Tensor]) -> Entry:
        """Keep an entry; returns it, its tensors on the CPU."""
        # Copies: a batch's outputs may be views of one memory.
        kept = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in entry.items()}
        self._waiting[key] = kept
        self._waiting_bytes += sum(tensor.nbytes for tensor in kept.values())
        if self._waiting_bytes >= SHARD_BYTES:
            self.flush()
        return kept

    def flush(self) -> None:
        """Write what waits as a shard."""
        from safetensors.torch import save_file

        if not self._waiting:
            return
        path = self.directory / f"{digest(sorted(self._waiting))[:20]}.safetensors"
        tensors = {f"{key}/{name}": t for key, entry in self._waiting.items() for name, t in entry.items()}
        with replacing(path) as unfinished:
            save_file(tensors, unfinished)
        self._waiting, self._waiting_bytes = {}, 0
        self.refresh()

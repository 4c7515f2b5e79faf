"""Outputs of frozen towers on disk: a clip is decoded, processed and encoded once instead of once an epoch.

An entry is a few tensors under a key, the digest of all that they depend on: the medium's content, the model,
and how much of a clip it is shown. Entries are in shards, safetensors files that are memory-mapped for
reading. A shard is written under a temporary name and renamed; what was not written when a run was killed is
computed again. So is what is in a broken shard: each entry has a checksum, which is compared when it is read.
Several processes may fill the same folder.
"""

from __future__ import annotations

import hashlib
import zlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from pipelines.atomic import replacing
from pipelines.durable.checkpoints import writing
from pipelines.errors import reason
from pipelines.row import digest

SHARD_BYTES = 64 * 2**20
"""A shard is written once so much is pending."""

Entry = dict[str, torch.Tensor]


class TowerCache:
    """Entries by key, those in the folder and those that are pending.

    Args:
        directory: The folder; made if it is missing.
        identity: What every entry depends on, as JSON values.
    """

    def __init__(self, directory: Path, identity: Any) -> None:
        self.directory, self.identity = directory, identity
        directory.mkdir(parents=True, exist_ok=True)
        self.lookups: Counter[str] = Counter()
        """How often an entry was `found` and how often it was `missing`."""
        self._shard_of: dict[str, Path] = {}
        self._names: dict[str, list[str]] = {}
        self._open: dict[Path, Any] = {}
        self._checksums: dict[str, str] = {}
        self._pending: dict[str, Entry] = {}
        self._pending_bytes = 0
        self.refresh()

    def key(self, kind: str, content: bytes) -> str:
        """The key of a tower's output for an encoded medium of a kind, `video` or `audio`."""
        return digest([kind, hashlib.sha256(content).hexdigest(), self.identity])

    def refresh(self) -> None:
        """Open the shards that other processes have written since the last call."""
        from safetensors import SafetensorError, safe_open

        for path in sorted(set(self.directory.glob("*.safetensors")) - set(self._open)):
            try:
                self._open[path] = safe_open(path, framework="pt")
            except SafetensorError as error:
                self._drop(path, reason(error))
                continue
            self._checksums |= self._open[path].metadata() or {}
            for full in self._open[path].keys():  # noqa: SIM118 - not a dict
                key, _, name = full.partition("/")
                self._shard_of[key] = path
                self._names.setdefault(key, []).append(name)

    def get(self, key: str) -> Entry | None:
        """The entry of a key, its tensors on the CPU; None where there is none."""
        if key not in self._pending and key not in self._shard_of:
            self.refresh()
        entry = self._pending.get(key) or self._read(key)
        self.lookups["found" if entry else "missing"] += 1
        return entry

    def _read(self, key: str) -> Entry | None:
        path = self._shard_of.get(key)
        if path is None:
            return None
        entry = {name: self._open[path].get_tensor(f"{key}/{name}") for name in set(self._names[key])}
        # Shards of earlier versions have no checksums.
        if self._checksums.get(key, checksum(entry)) == checksum(entry):
            return entry
        self._drop(path, "an entry has other content than was written")
        return None

    def _drop(self, path: Path, problem: str) -> None:
        """Remove a broken shard."""
        print(f"{path}: is broken ({problem}); it is removed, and its clips are encoded again", flush=True)
        path.unlink(missing_ok=True)
        self._open.pop(path, None)
        for key in [key for key, shard in self._shard_of.items() if shard == path]:
            del self._shard_of[key], self._names[key]

    def put(self, key: str, output: Mapping[str, torch.Tensor]) -> Entry:
        """Store an entry; returns it, its tensors on the CPU."""
        # Copies: a batch's outputs may be views of one memory.
        entry = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in output.items()}
        self._pending[key] = entry
        self._pending_bytes += sum(tensor.nbytes for tensor in entry.values())
        if self._pending_bytes >= SHARD_BYTES:
            self.flush()
        return entry

    def flush(self) -> None:
        """Write the pending entries as a shard."""
        from safetensors.torch import save_file

        if not self._pending:
            return
        path = self.directory / f"{digest(sorted(self._pending))[:20]}.safetensors"
        tensors = {f"{key}/{name}": t for key, entry in self._pending.items() for name, t in entry.items()}
        checksums = {key: checksum(entry) for key, entry in self._pending.items()}
        with writing(path), replacing(path) as unfinished:
            save_file(tensors, unfinished, metadata=checksums)
        self._pending, self._pending_bytes = {}, 0
        self.refresh()


def checksum(entry: Entry) -> str:
    """The CRC-32 of an entry's tensors."""
    crc = 0
    for _, tensor in sorted(entry.items()):
        crc = zlib.crc32(tensor.contiguous().view(-1).view(torch.uint8).numpy().data, crc)
    return f"{crc:08x}"

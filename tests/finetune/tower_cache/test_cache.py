"""The towers' outputs on disk: equal when they come back, by what they depend on, whole after a kill."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from finetune.tower_cache import cache as tower_cache
from finetune.tower_cache.cache import TowerCache

ENTRY = {
    "features": torch.randn(5, 3, dtype=torch.float32).to(torch.bfloat16),
    "grid": torch.tensor([1, 2, 3]),
}


def same(one: dict[str, torch.Tensor] | None, other: dict[str, torch.Tensor]) -> bool:
    return one is not None and set(one) == set(other) and all(torch.equal(one[n], other[n]) for n in other)


def test_what_was_put_comes_back_before_and_after_it_is_written(tmp_path: Path) -> None:
    cache = TowerCache(tmp_path, "m")
    keys = [cache.key("video", bytes([n])) for n in range(3)]
    for key in keys[:2]:
        cache.put(key, ENTRY)
    assert same(cache.get(keys[0]), ENTRY)
    cache.flush()
    cache.put(keys[2], {"features": torch.zeros(1, 3)})
    assert same(cache.get(keys[1]), ENTRY)
    cache.flush()
    again = TowerCache(tmp_path, "m")
    assert same(again.get(keys[0]), ENTRY)
    assert same(again.get(keys[2]), {"features": torch.zeros(1, 3)})
    assert again.get(again.key("video", b"other")) is None
    assert again.lookups == {"found": 2, "missing": 1}
    assert len(list(tmp_path.iterdir())) == 2


def test_a_key_depends_on_content_medium_and_identity(tmp_path: Path) -> None:
    cache, other = TowerCache(tmp_path, {"model": "a"}), TowerCache(tmp_path, {"model": "b"})
    keys = {
        cache.key("video", b"1"),
        cache.key("video", b"2"),
        cache.key("audio", b"1"),
        other.key("video", b"1"),
    }
    assert len(keys) == 4
    assert cache.key("video", b"1") in keys


def test_shards_are_written_when_enough_has_come_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tower_cache, "SHARD_BYTES", 100)
    cache = TowerCache(tmp_path, "m")
    for n in range(4):
        cache.put(cache.key("audio", bytes([n])), {"features": torch.zeros(20)})
    assert len(list(tmp_path.glob("*.safetensors"))) == 2


def test_what_another_process_wrote_is_found_after_a_look(tmp_path: Path) -> None:
    one, other = TowerCache(tmp_path, "m"), TowerCache(tmp_path, "m")
    key = one.key("audio", b"1")
    one.put(key, ENTRY)
    one.flush()
    other.put(key, ENTRY)  # both computed it
    other.flush()
    third = TowerCache(tmp_path, "m")
    assert same(third.get(key), ENTRY)


def test_an_unfinished_shard_is_not_seen(tmp_path: Path) -> None:
    (tmp_path / ".abc.safetensors.1.tmp").write_bytes(b"half")
    assert TowerCache(tmp_path, "m").get("key") is None

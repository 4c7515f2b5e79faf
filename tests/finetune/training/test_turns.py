"""Ranks that take turns do what one process does; here ranks are threads."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from finetune.training import validation


class Ranks(threading.local):
    """Of `torch.distributed`, what is asked; each thread is a rank."""

    rank = 0

    def __init__(self, heard: list[Any]) -> None:
        self.heard, self.ranks = heard, len(heard)

    def is_initialized(self) -> bool:
        return True

    def get_rank(self) -> int:
        return self.rank

    def get_world_size(self) -> int:
        return self.ranks

    def all_gather_object(self, found: list[Any], own: list[Any]) -> None:
        self.heard[self.rank] = own
        EVERYONE[self.ranks].wait()
        found[:] = self.heard


EVERYONE = {ranks: threading.Barrier(ranks, timeout=10) for ranks in (1, 2, 3, 7)}


@pytest.mark.parametrize("ranks", EVERYONE)
@pytest.mark.parametrize("rows", [0, 1, 4, 5, 11, 12])
def test_ranks_compute_the_batches_of_one_process(
    monkeypatch: pytest.MonkeyPatch, ranks: int, rows: int
) -> None:
    """All of them equally often, and each gets the whole in order."""
    ids = [f"row {number}" for number in range(rows)]
    asked: list[list[Sequence[str]]] = [[] for _ in range(ranks)]
    group = Ranks([None] * ranks)
    monkeypatch.setattr(validation, "distributed", group)

    def work(rank: int) -> list[str]:
        def compute(batch: Sequence[str]) -> list[str]:
            asked[rank].append(tuple(batch))
            return [f"value of {name}" for name in batch]

        group.rank = rank
        return validation.taken_in_turns(ids, 4, compute)

    with ThreadPoolExecutor(ranks) as threads:
        found = list(threads.map(work, range(ranks)))
    assert found == [[f"value of {name}" for name in ids]] * ranks
    assert {batch for own in asked for batch in own} == {tuple(ids[at : at + 4]) for at in range(0, rows, 4)}
    assert len({len(own) for own in asked}) == 1
    assert sum(map(len, asked)) < -(-rows // 4) + ranks

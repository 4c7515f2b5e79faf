"""Work on rows that ranks share: they take turns by batches, and all of them get the whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import distributed


def taken_in_turns(
    ids: Sequence[str], batch_size: int, compute: Callable[[Sequence[str]], list[Any]]
) -> list[Any]:
    """What `compute` gives for rows, batch by batch, each batch by one rank.

    The batches are those of a single process, whatever the number of ranks, so that their results are, too.

    Args:
        ids: Of the rows.
        batch_size: Rows of a batch.
        compute: Gives a value for each row of a batch, in their order.

    Returns:
        Of each row its value, (N,), in all ranks.
    """
    rank, ranks = 0, 1
    if distributed.is_initialized():
        rank, ranks = distributed.get_rank(), distributed.get_world_size()
    batches = [ids[start : start + batch_size] for start in range(0, len(ids), batch_size)]
    rounds = -(-len(batches) // ranks)
    # Repeated batches fill the last round up: where the model is cut up, all ranks must ask it equally often.
    own = [compute(batches[turn % len(batches)]) for turn in range(rank, rounds * ranks, ranks)]
    in_order = [batch for taken in zip(*_gathered(own, ranks), strict=True) for batch in taken]
    return [value for batch in in_order[: len(batches)] for value in batch]


def _gathered(own: list[Any], ranks: int) -> list[list[Any]]:
    """Of each rank, what it has."""
    if ranks == 1:
        return [own]
    found: list[Any] = [None] * ranks
    distributed.all_gather_object(found, own)
    return found

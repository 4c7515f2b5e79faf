"""Parts of a track: as large as asked for, and a larger one contains a smaller one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from benchmarks.scorer.random_parts import piece, places

SHARES = (0.1, 0.2, 0.45, 0.8, 1.0)


@pytest.mark.parametrize("seed", range(20))
def test_a_larger_part_contains_a_smaller_one(seed: int) -> None:
    pieces = [piece(50, share, 2, np.random.default_rng(seed)) for share in SHARES]
    assert [part.stop - part.start for part in pieces] == [5, 10, 22, 40, 50]
    for small, large in itertools.pairwise(pieces):
        assert large.start <= small.start < small.stop <= large.stop
    spots = [places(16, share, np.random.default_rng(seed)) for share in SHARES]
    assert [int(spot.sum()) for spot in spots] == [2, 3, 7, 13, 16]
    for fewer, more in itertools.pairwise(spots):
        assert np.all(more[fewer])


def test_a_part_lies_anywhere() -> None:
    starts = {piece(10, 0.2, 2, np.random.default_rng(seed)).start for seed in range(200)}
    assert starts == set(range(9))
    assert places(5, 0.0, np.random.default_rng(0)).sum() == 1

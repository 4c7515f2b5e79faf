"""The report's measures equal their closed forms, and its verdict names what it should."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.scorer.report import area, tau, verdict


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([[5, 4, 3, 2, 1]], 1.0),
        ([[1, 2, 3, 4, 5]], -1.0),
        ([[3, 3, 3]], 0.0),
        ([[1, 2, 3], [3, 2, 1]], 0.0),
        ([[3, 1, 2]], 1 / 3),  # two of three pairs fall, one rises
        ([[2, 2, 1]], 2 / 3),  # a tie is neither
        ([[3, 2, 1], [1, np.nan, 3]], 1.0),
        ([[np.nan, 2, 1]], None),
    ],
)
def test_tau_equals_its_closed_forms(values: list[list[float]], expected: float | None) -> None:
    found = tau(np.array(values, dtype=float))
    assert found is None if expected is None else found == pytest.approx(expected)


@pytest.mark.parametrize(
    ("better", "worse", "expected"),
    [
        ([2, 3], [0, 1], 1.0),
        ([0, 1], [2, 3], 0.0),
        ([1, 1], [1, 1, 1], 0.5),
        ([1, 3], [2], 0.5),
        ([1, 2, 3], [2], 0.5),
        ([2, 3], [2, 1], 3.5 / 4),
        ([2, np.nan], [1, np.nan], 1.0),
        ([np.nan], [1], None),
    ],
)
def test_area_equals_its_closed_forms(
    better: list[float], worse: list[float], expected: float | None
) -> None:
    found = area(np.array(better, dtype=float), np.array(worse, dtype=float))
    assert found is None if expected is None else found == pytest.approx(expected)


def test_a_verdict_names_what_is_missed_and_what_is_blamed() -> None:
    def harmful(tau: float | None, area: float | None, rows: int = 5) -> dict[str, object]:
        measured = {"tau": tau, "area": area}
        return {"harmless": False, "severities": [{"rows": rows}], **measured, "overall": measured}

    def harmless(*medians: float) -> dict[str, object]:
        severities = [{"rows": 5, "quality": median, "overall": median**0.5} for median in medians]
        return {"harmless": True, "severities": severities}

    corruptions = {
        "told": harmful(0.8, 0.9), "unsteady": harmful(0.79, 1), "close": harmful(1, 0.89),
        "rejected": harmful(None, None), "of no clip": harmful(None, None, rows=0),
        "left alone": harmless(1, 0.8), "blamed": harmless(0.9, 0.7, 0.95),
    }  # fmt: skip
    missed = ["unsteady", "close", "rejected"]
    found = verdict(corruptions, "track")
    assert found == {"harmful": 4, "missed": missed, "harmless": 2, "blamed": ["blamed"]}
    assert verdict(corruptions, "overall") == found | {"blamed": []}

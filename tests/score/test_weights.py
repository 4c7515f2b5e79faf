"""Weights: the formula in closed form, its order, its floor, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.row import effective_size
from score.weights import anchored, newness, weights

SCALE = {"bad": 0.1, "good": 0.9, "gamma": 1.0, "floor": 0.1}
USUAL = {"low": 0.1, "high": 0.9, "gamma": 1.0, "floor": 0.1}


def test_equals_the_closed_form() -> None:
    quality = np.linspace(0, 1, 11)  # quantiles 0.1 and 0.9 are 0.1 and 0.9
    expected = [max(0.2, min(1.0, (q - 0.1) / 0.8)) ** 2 for q in quality]
    found = weights(quality, low=0.1, high=0.9, gamma=2.0, floor=0.2)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_monotone_and_between_the_least_weight_and_one() -> None:
    quality = np.random.default_rng(0).uniform(size=200)
    found = weights(quality, low=0.2, high=0.8, gamma=0.7, floor=0.05)
    assert (np.diff(found[np.argsort(quality)]) >= 0).all()
    assert found.min() == pytest.approx(0.05**0.7)
    assert found.max() == 1.0


def test_anchored_weights_equal_the_closed_form_and_depend_on_no_other_variant() -> None:
    quality = np.random.default_rng(0).uniform(size=100)
    found = anchored(quality, bad=0.2, good=0.7, gamma=2.0, floor=0.3)
    np.testing.assert_allclose(found, [max(0.3, min(1.0, (q - 0.2) / 0.5)) ** 2 for q in quality], rtol=1e-12)
    assert (np.diff(found[np.argsort(quality)]) >= 0).all()
    alone = [anchored([q], bad=0.2, good=0.7, gamma=2.0, floor=0.3)[0] for q in quality]
    np.testing.assert_array_equal(found, alone)


def test_all_good_weigh_much_and_all_bad_little_where_ranks_spread_them() -> None:
    rng = np.random.default_rng(1)
    good, bad = rng.uniform(0.85, 1, 100), rng.uniform(0.02, 0.15, 100)
    assert anchored(good, **SCALE).mean() > 0.9
    assert anchored(bad, **SCALE).mean() < 0.15
    assert 0.4 < anchored([*good, *bad], **SCALE).mean() < 0.6
    assert weights(good, **USUAL).mean() == pytest.approx(weights(bad, **USUAL).mean(), abs=0.05)


def test_depends_on_neither_order_nor_an_affine_change_of_the_qualities() -> None:
    quality = np.random.default_rng(1).uniform(size=50)
    found = weights(quality, **USUAL)
    order = np.random.default_rng(2).permutation(50)
    np.testing.assert_allclose(weights(quality[order], **USUAL), found[order])
    np.testing.assert_allclose(weights(0.3 + 0.5 * quality, **USUAL), found)


def test_without_spread_all_are_trusted_alike() -> None:
    assert weights([0.4] * 5, **USUAL).tolist() == [1.0] * 5
    # One in twenty is worse: the quantiles still coincide, and it alone gets the least weight.
    assert weights([0.4] * 19 + [0.1], **USUAL).tolist() == [1.0] * 19 + [0.1]
    assert weights([], **USUAL).shape == (0,)


def test_refuses_what_is_no_quality_and_names_the_rows() -> None:
    with pytest.raises(ValueError, match=r"wanted numbers in \[0, 1\], found b \(nan\), d \(1.2\)$"):
        weights([0.1, np.nan, 0.3, 1.2], **USUAL, ids=["a", "b", "c", "d"])
    with pytest.raises(ValueError, match=r"row 0 \(nan\), .* and 3 more$"):
        weights([np.nan] * 8, **USUAL)
    with pytest.raises(ValueError, match=r"found row 1 \(-0.1\)$"):
        anchored([0.1, -0.1], **SCALE)


@pytest.mark.parametrize(
    ("setting", "value"), [("low", -0.1), ("high", 0.1), ("high", 1.1), ("gamma", 0.0), ("floor", 1.5)]
)
def test_refuses_settings_out_of_range_by_name(setting: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"^{setting}: {value:g} is not"):
        weights([0.5], **USUAL | {setting: value})


def test_newness_is_the_best_of_what_is_known_between_the_quantiles() -> None:
    picture = np.array([0.0, 0.1, 0.2, 0.3, 0.4, np.nan, np.nan, np.nan])
    sound = np.array([np.nan, np.nan, np.nan, np.nan, 0.0, 5.0, 10.0, np.nan])
    found = newness([picture, sound], low=0.0, high=1.0, floor=0.1)
    np.testing.assert_allclose(found, [0.1, 0.25, 0.5, 0.75, 1.0, 0.5, 1.0, 1.0])


def test_effective_size_counts_rows_of_equal_weight() -> None:
    assert effective_size(np.array([1.0, 1.0, 0.0, 0.0])) == 2.0
    assert effective_size(np.array([0.5, 0.5, 0.5])) == pytest.approx(3.0)
    assert effective_size(np.zeros(3)) == effective_size([]) == 0.0
    assert effective_size([1.0, 0.0, 0.0]) == 1.0

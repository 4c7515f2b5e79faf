"""Ridge regression: its solution is that of punished least squares."""

from __future__ import annotations

import numpy as np

from pipelines.ridge import Decomposed


def test_solves_the_punished_least_squares() -> None:
    rng = np.random.default_rng(0)
    inputs, labels = rng.normal(size=(30, 4)) + 2, rng.normal(size=30)
    weights, intercept = Decomposed(inputs, labels).fit(3.0)
    rows = np.hstack([np.ones((30, 1)), inputs])
    punished = np.vstack([rows, np.sqrt(3.0) * np.eye(5)[1:]])  # not the intercept
    wanted = np.linalg.lstsq(punished, np.concatenate([labels, np.zeros(4)]), rcond=None)[0]
    np.testing.assert_allclose([intercept, *weights], wanted, atol=1e-10)

"""Ridge regression with an unpenalized intercept; one decomposition serves every penalty."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np


class Decomposed:
    """Centred rows (n, d) and targets (n,); the rows are decomposed as left * spread @ right."""

    def __init__(self, x: np.ndarray, targets: np.ndarray) -> None:
        self.mean, self.level = x.mean(axis=0), float(targets.mean())
        self.left, self.spread, self.right = np.linalg.svd(x - self.mean, full_matrices=False)
        self.targets = targets - self.level

    def fit(self, penalty: float) -> tuple[np.ndarray, float]:
        """Weights (d,), with `penalty` on their squares, and intercept."""
        shrunk = self.spread / (self.spread**2 + penalty)
        weights = self.right.T @ (shrunk * (self.left.T @ self.targets))
        return weights, float(self.level - self.mean @ weights)

    def left_out_error(self, penalty: float, together: Collection[np.ndarray], least_kept: float) -> float:
        """Mean squared error of the rows under regressions fitted without their group.

        Args:
            penalty: As for `fit`.
            together: The rows of each group.
            least_kept: Added to 1 - leverage, which is 0 for rows that determine their own prediction.

        References:
            Allen 1974: the residuals of a left-out group are (I - H)^-1 times its residuals, where H is its
            block of the hat matrix.
        """
        shrink = self.spread**2 / (self.spread**2 + penalty)
        residual = self.targets - self.left @ (shrink * (self.left.T @ self.targets))
        total = 0.0
        for rows in together:
            left = self.left[rows]
            hat = (left * shrink) @ left.T + 1 / len(residual)  # the intercept's is 1 / n
            kept = np.eye(len(rows)) * (1 + least_kept) - hat
            total += float((np.linalg.solve(kept, residual[rows]) ** 2).sum())
        return total / len(residual)

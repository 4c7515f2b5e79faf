"""Similarity of curves and of probabilities."""

from __future__ import annotations

import numpy as np

FLAT = 1e-9
"""Variance below which a curve is flat."""


def pearson(a: np.ndarray, b: np.ndarray) -> float:
    """Correlation of two arrays of one shape, in [-1, 1]; 0 if either is flat."""
    a, b = a - a.mean(), b - b.mean()
    spread = float((a * a).mean() * (b * b).mean())
    return float((a * b).mean() / np.sqrt(spread)) if spread > FLAT**2 else 0.0


def concordance(a: np.ndarray, b: np.ndarray) -> float:
    """Correlation that also depends on the range, in [-1, 1]; 0 if both are flat.

    2 cov / (var + var): a curve of the same shape with half the range has 0.8. A constant offset
    changes nothing.

    References:
        Lin 1989, "A concordance correlation coefficient to evaluate reproducibility", without its
        term for the means.
    """
    a, b = a - a.mean(), b - b.mean()
    spread = float((a * a).mean() + (b * b).mean())
    return float(2 * (a * b).mean() / spread) if spread > FLAT else 0.0


def agreement(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """1 minus the Jensen-Shannon divergence in bits of probabilities (..., classes): in [0, 1], (...,)."""
    mean = (a + b) / 2
    divergence = (_nats(a, mean) + _nats(b, mean)) / 2
    return 1 - np.clip(divergence / np.log(2), 0, 1)


def _nats(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Kullback-Leibler divergence of probabilities."""
    return (a * np.log(np.maximum(a, 1e-12) / np.maximum(b, 1e-12))).sum(axis=-1)


def smoothed(curve: np.ndarray, length: int) -> np.ndarray:
    """Moving average over `length` values, (n,); over fewer at the ends."""
    kernel = np.ones(min(length, len(curve)))
    return np.convolve(curve, kernel, "same") / np.convolve(np.ones(len(curve)), kernel, "same")

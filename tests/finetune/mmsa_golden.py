"""What MMSA's own metrics give on inputs made by formula: writes `mmsa_golden.json`.

    pip install --no-deps MMSA==2.2.1 && pip install scikit-learn
    python -m tests.finetune.mmsa_golden

MMSA is not imported as a package, since that imports all its models: the one file with the metrics
is. A number that is NaN is null; where MMSA raises, the error's class stands in place of the numbers.
"""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import Any

import numpy as np
import torch

GOLDEN = Path(__file__).with_name("mmsa_golden.json")
CORPORA = ("MOSI", "MOSEI", "SIMS")
INSTALL = "pip install --no-deps MMSA==2.2.1 && pip install scikit-learn"

Case = tuple[np.ndarray, np.ndarray]
EDGES: dict[str, tuple[list[float], list[float]]] = {
    "bin_edges": ([-0.7, -0.1, 0.0, 0.1, 0.7, -0.7, 0.1], [-0.8, -0.2, -0.1, 0.0, 0.6, -0.7, 0.1]),
    "beside_bin_edges": ([-0.69, -0.09, 0.01, 0.11, 0.71], [-0.7, -0.1, 0.0, 0.1, 0.7]),
    "signed_zeros": ([-0.0, 0.0, -0.0, 0.5, -0.0], [0.0, -0.0, 0.3, -0.3, -0.0]),
    "beyond_the_scale": ([7.0, -9.0, 3.5, -1.2, 1.01], [3.0, -3.0, 2.6, -1.0, 1.0]),
    "labels_beyond_the_scale": ([3.0, -3.0, 0.4], [4.2, -3.6, 1.4]),
    "constant_predictions": ([0.25] * 5, [1.0, -1.0, 0.4, 0.0, -0.6]),
    "constant_labels": ([1.0, -1.0, 0.4, 0.0, -0.6], [0.5] * 5),
    "all_labels_zero": ([0.2, -0.1, 0.0], [0.0, 0.0, 0.0]),
    "one_row": ([0.4], [0.6]),
    "all_negative": ([-1.2, -0.3, -2.0, 0.2], [-3.0, -0.4, -1.0, -0.6]),
    "halves": ([0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 3.5], [0.0, 2.0, 2.0, 0.0, -2.0, -2.0, 3.0]),
    "half_labels": ([0.4, 1.6, 2.4, -0.6, -1.4], [0.5, 1.5, 2.5, -0.5, -1.5]),
    "nobody_says_positive": ([-1.0, -0.5, -0.2, -0.3], [1.0, 2.0, -0.4, 0.6]),
    "ties_at_the_fifth_decimal": ([1.0] + [-1.0] * 31, [1.0] * 32),
    "nan_predicted": ([math.nan, 1.0, -1.0], [0.2, 1.0, -1.0]),
    "nan_label": ([0.2, 1.0, -1.0], [math.nan, 1.0, -1.0]),
}


def cases() -> dict[str, Case]:
    """Predictions and labels by name, float32, (N,) each."""
    found = {name: (_single(said), _single(is_so)) for name, (said, is_so) in EDGES.items()}
    for rows in (2, 3, 17, 64, 686):
        found[f"fifths_{rows}"] = _random(rows, 3.0, lambda rng, n: rng.integers(-15, 16, n) / 5)
        found[f"tenths_{rows}"] = _random(rows, 0.0, lambda rng, n: rng.integers(-14, 15, n) / 10)
        found[f"thirds_{rows}"] = _random(rows, 0.7, lambda rng, n: rng.integers(-9, 10, n) / 3)
    return found


def _random(rows: int, noise: float, draw: Callable[[np.random.Generator, int], np.ndarray]) -> Case:
    """Labels by `draw`, predictions around them; without noise drawn alike, so that both lie on edges."""
    rng = np.random.default_rng(rows)
    labels = draw(rng, rows)
    # By integers alone, whose stream is the same wherever NumPy runs.
    spread = rng.integers(-1000, 1001, rows) / 1000 * noise
    return _single(labels + spread if noise else draw(rng, rows)), _single(labels)


def _single(values: Any) -> np.ndarray:
    return np.asarray(values, dtype=np.float32)


def load_mmsa() -> Callable[[str], Callable[[torch.Tensor, torch.Tensor], dict[str, float]]]:
    """MMSA's choice of metrics by corpus.

    Raises:
        ImportError: If MMSA or scikit-learn is not installed.
    """
    try:
        path = Path(str(distribution("MMSA").locate_file("MMSA/utils/metricsTop.py")))
    except PackageNotFoundError as error:
        raise ImportError("MMSA is not installed") from error
    spec = importlib.util.spec_from_file_location("mmsa_metrics_top", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.MetricsTop("regression").getMetics


def asked(metrics: Callable[[str], Any], corpus: str, case: Case) -> dict[str, float | None] | str:
    """What MMSA gives for a case, or the class of the error that it raises."""
    try:
        with np.errstate(all="ignore"):
            found = metrics(corpus)(*map(torch.from_numpy, case))
    except (IndexError, ValueError) as error:
        return type(error).__name__
    return {name: None if np.isnan(value) else float(value) for name, value in found.items()}


def main() -> None:
    """Ask MMSA, and write what it says."""
    metrics = load_mmsa()
    said = {
        name: {corpus: asked(metrics, corpus, case) for corpus in CORPORA} for name, case in cases().items()
    }
    versions = {name: version(name) for name in ("MMSA", "scikit-learn", "numpy", "torch")}
    told = {"made_by": "python -m tests.finetune.mmsa_golden", "versions": versions, "cases": said}
    GOLDEN.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

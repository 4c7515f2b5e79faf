"""Tests whether one run's networks do better than another's, with the same seeds on the same rows.

**Over seeds**: a paired t test of each metric's differences, one pair per seed. It generalises to other
seeds on these rows.

**Over rows**: `finetune.comparison`'s paired bootstrap over the pooled ratings of all seeds: a row, or a
whole video if ids name the video that a row is cut from, is drawn with its ratings from every seed. It
generalises to other rows with these seeds.

References:
    Student's distribution as a finite sum: Abramowitz & Stegun 1964, 26.7.3 and 26.7.4.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from finetune.comparison import Pairs, compare
from finetune.msa_metrics import DEFINITIONS
from pipelines.errors import RunError

SEPARATOR = "$_$"
"""Separates video and clip in MMSA's ids."""


def over_seeds(run: Path, against: Path, seeds: Sequence[int]) -> dict[str, dict[str, float | None]]:
    """By metric: mean difference (run minus against), t, degrees of freedom, p."""
    ours, theirs = (
        [
            json.loads((folder / f"seed-{seed}" / "metrics.json").read_text(encoding="utf-8"))["test"]
            for seed in seeds
        ]
        for folder in (run, against)
    )
    tests = {}
    for name in ours[0]:
        pairs = [(one[name], other[name]) for one, other in zip(ours, theirs, strict=True)]
        values = [one - other for one, other in pairs if one is not None and other is not None]
        tests[name] = paired_t(values) if len(values) == len(seeds) else paired_t([])
    return tests


def paired_t(differences: Sequence[float]) -> dict[str, float | None]:
    """Student's paired t test; t and p are None for fewer than two differences, or if all are equal."""
    count = len(differences)
    mean = float(np.mean(differences)) if count else None
    spread = float(np.std(differences, ddof=1)) if count > 1 else 0.0
    if mean is None or not spread:
        return {"difference": mean, "t": None, "freedom": None, "p": None}
    t = mean / (spread / math.sqrt(count))
    return {"difference": mean, "t": t, "freedom": count - 1, "p": two_sided(t, count - 1)}


def two_sided(t: float, freedom: int) -> float:
    """Two-sided p-value: the probability of at least |t| under Student's distribution."""
    angle = math.atan(abs(t) / math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    term, total = (cosine, cosine) if odd else (1.0, 1.0)
    if freedom == 1:
        total = 0.0
    for step in range(2 + odd, freedom - 1, 2):
        term *= cosine**2 * (step - 1) / step
        total += term
    within = 2 / math.pi * (angle + sine * total) if odd else sine * total
    return max(0.0, 1 - within)


def over_rows(run: Path, against: Path, seeds: Sequence[int], resamples: int) -> dict[str, Any]:
    """Result of `finetune.comparison.compare` on the pooled test ratings.

    Raises:
        RunError: If the runs did not rate the same rows.
    """
    from pyarrow import compute, concat_tables, parquet

    ours, theirs = (
        concat_tables(parquet.read_table(folder / f"seed-{seed}" / "predictions.parquet") for seed in seeds)
        .filter(compute.field("split") == "test")
        .to_pydict()
        for folder in (run, against)
    )
    for name in ("seed", "id", "label"):
        if ours[name] != theirs[name]:
            raise RunError(
                f"{run} and {against}: {name} of the test rows differ; train both on the same data"
            )
    scale = json.loads((run / "config.json").read_text(encoding="utf-8"))["scale"]
    pairs = Pairs(
        groups=[group_of(row_id) for row_id in ours["id"]],
        labels=np.array(ours["label"]),
        model=np.array(ours["prediction"]),
        against=np.array(theirs["prediction"]),
        definition=DEFINITIONS[scale],
    )
    return compare(pairs, resamples=resamples)


def group_of(row_id: str) -> str:
    """The video of a clip if its id names one, else the clip."""
    return row_id.split(SEPARATOR)[0]

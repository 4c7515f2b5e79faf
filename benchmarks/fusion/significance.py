"""Whether one run's networks do better than another's, from the same seeds on the same rows.

**Over seeds**: a paired t test of each metric's differences, a seed a pair. It asks what another
seed would bring, on these rows.

**Over rows**: `finetune.comparison`'s paired bootstrap, the ratings of all seeds pooled: a row, or where
ids name the video a row is cut from a whole video, is drawn with its ratings from every seed. It asks
what other rows would bring, from these seeds.

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
"""Between the video and the clip in MMSA's ids."""


def over_seeds(run: Path, against: Path, seeds: Sequence[int]) -> dict[str, dict[str, float | None]]:
    """By metric: mean difference (run less against), t, degrees of freedom, p."""
    ours, theirs = ([_metrics(folder, seed) for seed in seeds] for folder in (run, against))
    found = {}
    for name in ours[0]:
        pairs = [(one[name], other[name]) for one, other in zip(ours, theirs, strict=True)]
        values = [one - other for one, other in pairs if one is not None and other is not None]
        found[name] = paired_t(values) if len(values) == len(seeds) else paired_t([])
    return found


def paired_t(differences: Sequence[float]) -> dict[str, float | None]:
    """Student's paired test against no difference; without a t where fewer than two or all are one."""
    count = len(differences)
    mean = float(np.mean(differences)) if count else None
    spread = float(np.std(differences, ddof=1)) if count > 1 else 0.0
    if mean is None or not spread:
        return {"difference": mean, "t": None, "freedom": None, "p": None}
    t = mean / (spread / math.sqrt(count))
    return {"difference": mean, "t": t, "freedom": count - 1, "p": two_sided(t, count - 1)}


def two_sided(t: float, freedom: int) -> float:
    """The share of Student's distribution that is at least |t| away from 0."""
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
    """What `finetune.comparison.compare` says of the pooled ratings of test.

    Raises:
        RunError: If the runs have not rated the same rows.
    """
    ours, theirs = (_test_rows(folder, seeds) for folder in (run, against))
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
    """The video that a clip was cut from where its id tells, else the clip."""
    return row_id.split(SEPARATOR)[0]


def _metrics(run: Path, seed: int) -> dict[str, float | None]:
    return json.loads((run / f"seed-{seed}" / "metrics.json").read_text(encoding="utf-8"))["test"]


def _test_rows(run: Path, seeds: Sequence[int]) -> dict[str, list[Any]]:
    """The columns of the test split's predictions, seed by seed."""
    from pyarrow import compute, concat_tables, parquet

    tables = [parquet.read_table(run / f"seed-{seed}" / "predictions.parquet") for seed in seeds]
    table = concat_tables(tables)
    return table.filter(compute.equal(table["split"], "test")).to_pydict()

"""The numbers at the top of a report, from a store's table and its records; no media are read."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.atomic import read_json_lines
from pipelines.errors import RunError
from pipelines.row import KINDS, SPLITS, Row, effective_size
from pipelines.store import StoreReader, made_by
from pipelines.untrusted.plain_json import parsed_json

BINS = 20  # of the weights' histogram, over [0, 1]
FAILURES_SHOWN = 50
# Keys of `metrics.json`: when, and on which split, metrics were measured.
MEASURED = ("before", "after", "train", "valid", "test")


@dataclass(frozen=True)
class Group:
    """The rows of one kind."""

    kind: str
    counts: dict[str, int]  # rows in each split
    mean_weight: float
    effective: float  # effective sample size of its weights
    histogram: list[int]  # rows by weight, in `BINS` equal bins over [0, 1]; 1 is in the last

    @property
    def rows(self) -> int:
        return sum(self.counts.values())


@dataclass(frozen=True)
class Summary:
    """What a report says about a store as a whole."""

    title: str
    corpora: list[str]
    splits: list[str]
    groups: list[Group]
    duration_s: float
    variants: int
    effective: float
    failures: list[dict[str, Any]]  # the first `FAILURES_SHOWN`
    failure_counts: list[tuple[str, int]]  # of all failures, by stage and error
    settings: list[tuple[str, str]]
    metrics: dict[str, dict[str, float]]
    """Metrics of a model by when or on which split they were measured, as before and after training."""

    @property
    def rows(self) -> int:
        return sum(group.rows for group in self.groups)

    @property
    def originals(self) -> int:
        return self.rows - self.variants

    @property
    def failures_total(self) -> int:
        return sum(count for _, count in self.failure_counts)

    @property
    def tallest(self) -> int:
        """Rows in the fullest bin of the variants' histogram, all kinds together."""
        variants = [group.histogram for group in self.groups if group.kind != "original"]
        return max((sum(bins) for bins in zip(*variants, strict=True)), default=0)


def summarize(reader: StoreReader, model: Path | None) -> Summary:
    """Summarize a store, and the `metrics.json` in a model's folder.

    Raises:
        RunError: If the model's metrics are missing or cannot be read.
    """
    table = reader.table
    rows = table.select(["kind", "split", "weight"]).to_pylist()
    groups = [_group(kind, [row for row in rows if row["kind"] == kind]) for kind in KINDS]
    weights = [row["weight"] for row in rows if row["kind"] != "original"]
    splits = {row["split"] for row in rows}
    settings = made_by(reader.directory)
    failures = read_json_lines(reader.directory / "failures.jsonl")
    reasons = Counter(f"{failure['stage']}: {failure['error']}" for failure in failures)
    return Summary(
        title=str(settings.get("title", reader.directory.name)),
        corpora=sorted(set(map(str, table["corpus"].to_pylist()))),
        splits=[split for split in SPLITS if split in splits],
        groups=[group for group in groups if group.rows],
        duration_s=sum(filter(None, table["duration_s"].to_pylist())),
        variants=len(weights),
        effective=effective_size(weights),
        failures=failures[:FAILURES_SHOWN],
        failure_counts=reasons.most_common(),
        settings=flat(settings),
        metrics=read_metrics(model) if model else {},
    )


def _group(kind: str, rows: Sequence[Row]) -> Group:
    weights = [row["weight"] for row in rows]
    histogram = [0] * BINS
    for weight in weights:
        histogram[min(int(weight * BINS), BINS - 1)] += 1
    counts = Counter(row["split"] for row in rows)
    mean = sum(weights) / max(1, len(weights))
    return Group(kind, dict(counts), mean, effective_size(weights), histogram)


def read_metrics(model: Path) -> dict[str, dict[str, float]]:
    """The numbers under the keys `MEASURED` in a model's `metrics.json`, by those keys.

    Raises:
        RunError: If the file is missing, is not JSON, or has no numbers.
    """
    path = model / "metrics.json"
    try:
        columns = _columns(parsed_json(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise RunError(
            f"{path}: missing; `daq-msa evaluate --model {model} --data STORE` writes it"
        ) from error
    except json.JSONDecodeError as error:
        raise RunError(f"{path}: not JSON ({error}); evaluate the model again") from error
    if not columns:
        raise RunError(f"{path}: holds no numbers; evaluate the model again")
    return columns


def _columns(metrics: Any, name: str = "") -> dict[str, dict[str, float]]:
    """The numbers of nested dicts by the keys that lead to them."""
    if not isinstance(metrics, dict):
        return {}
    numbers = {
        key: value
        for key, value in metrics.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    columns = {name: numbers} if name and numbers else {}
    for key in MEASURED:
        columns |= _columns(metrics.get(key), f"{name} {key}".strip())
    return columns


def flat(value: Any, name: str = "") -> list[tuple[str, str]]:
    """The leaves of nested JSON as dotted names and texts, in order."""
    if isinstance(value, dict) and value:
        start = f"{name}." if name else ""
        return [leaf for key, inner in value.items() for leaf in flat(inner, start + key)]
    return [(name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))]

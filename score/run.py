"""The stage: a store of originals and variants in, the same store with signals, qualities and weights out.

    measure     each training row, in parts that resume (`score.measurement`)
    judge       what a value is worth on this corpus (`score.aggregation`, `score.calibrate`)
    weigh       qualities to weights (`score.weights`)

Rows of valid and test are passed on as they are; nothing of them is decoded, fitted or measured.
Beside the store: `calibration.json` and `weights.json`, both as pictures too, and `measures.parquet`.
`python -m score --help` lists the settings.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines import provenance
from pipelines.atomic import write_json
from pipelines.device import share
from pipelines.errors import RunError, UsageError
from pipelines.row import Row
from pipelines.runner import Stage
from pipelines.store import StoreReader, committed_generation, made_by
from score import calibrate, label_probability, measurement, planning, plots
from score.aggregation import Variants, judge, unscored, weigh
from score.models import loading
from score.models.settings import ModelSettings
from score.signals.catalogue import SIGNALS, WEIGHED, column, of_models
from score.weights import check_settings

if TYPE_CHECKING:
    from pipelines.settings import Invocation

logger = logging.getLogger(__name__)

BATCH = 8
SCORES = [column(name) for name in SIGNALS]


@dataclass(frozen=True, kw_only=True)
class ScoreConfig:
    """Stage 1b: a reliability weight for each variant."""

    low: float = 0.1
    """Quantile of the variants' qualities that gets the least weight, with all below; in [0, 1)."""
    high: float = 0.9
    """Quantile that gets weight 1, with all above; in (low, 1]."""
    gamma: float = 1.0
    """Exponent of the weight, above 0: above 1 doubtful variants count less, below 1 more."""
    floor: float = 0.1
    """Least weight before the exponent, in [0, 1]."""
    novelty: float = 0.0
    """Exponent of a factor for how much is new in a variant, 0 or more; 0 weighs a copy as any other."""
    calibration_clips: int = 64
    """Training originals that good and bad pairs are made of, 0 or more; spread over the corpus."""
    folds: int = 5
    """Models of the predictor, 2 or more; a clip is asked of the one that never saw its group."""
    signals: tuple[str, ...] | None = None
    """Signals that count towards the quality, by name (docs/scoring.md lists them); null takes all there are.
    All are measured and stored, so that --reweigh can choose others."""
    disabled_signals: tuple[str, ...] = ()
    """Signals that do not count, by name."""
    label_probability: str | None = None
    """A Parquet file with `id` and `log_probability`, for `cross_label`: how probable a frozen multimodal
    model finds each row's label, as python -m finetune.label_probability writes it."""
    models: ModelSettings = field(default_factory=ModelSettings)

    def __post_init__(self) -> None:
        check_settings(low=self.low, high=self.high, gamma=self.gamma, floor=self.floor)
        if not 0 <= self.novelty < float("inf"):
            raise ValueError(f"novelty: {self.novelty:g} is not 0 or more and finite")
        if self.calibration_clips < 0:
            raise ValueError(f"calibration_clips: {self.calibration_clips} is negative; take 0 or more")
        if self.folds < 2:
            raise ValueError(f"folds: {self.folds} is not 2 or more")
        for key in ("signals", "disabled_signals"):
            unknown = [name for name in getattr(self, key) or () if name not in WEIGHED]
            if unknown:
                raise ValueError(f"{key}: got {', '.join(unknown)}; takes {', '.join(WEIGHED)}")
        if not self.counted():
            raise ValueError("disabled_signals: no signal is left that counts; disable fewer")

    def counted(self) -> list[str]:
        """The signals that count where they can be had."""
        chosen = WEIGHED if self.signals is None else self.signals
        return [name for name in chosen if name not in self.disabled_signals]

    def asked(self) -> set[str]:
        """The models that signals can be had of, by setting, `label` among them where a file is given."""
        return {*self.models.names(), *(["label"] if self.label_probability else [])}

    def weighing(self) -> dict[str, float]:
        """The settings that make a weight of a quality; they change nothing that is measured."""
        names = ("low", "high", "gamma", "floor", "novelty")
        return {name: getattr(self, name) for name in names}


def run(invocation: Invocation[ScoreConfig]) -> dict[str, int]:
    """Score a store.

    Returns:
        Rows per split; empty in all processes but the first.

    Raises:
        StageFailed: If too many rows, or all of them, failed.
    """
    config, reader = invocation.config, StoreReader(invocation.data)
    if invocation.data.resolve() == invocation.out.resolve():
        raise UsageError(f"--out: {invocation.out} is the store that is read; name another folder")
    labels = label_probability.read(Path(config.label_probability)) if config.label_probability else None
    lacking = loading.unavailable(config.models.names())
    names = {setting: name for setting, name in config.models.names().items() if setting not in lacking}
    tasks = planning.plan(
        reader,
        calibration_clips=config.calibration_clips,
        seed=invocation.seed,
        models=loading.identity(names),
    )
    stage = _stage(invocation)
    stage.perform(
        tasks,
        lambda task: planning.load(reader, task),
        lambda: measurement.ScoreVariants(loading.load(names, config.models.device)),
    )
    if not stage.leads:
        return {}
    rows = reader.table.to_pylist()
    measured = measurement.collect(stage, tasks)
    judgement = judge(
        rows,
        measured,
        folds=config.folds,
        unavailable={name: reason for of, reason in lacking.items() for name in of_models([of])},
        unasked=of_models({*loading.LOADERS, "label"} - config.asked()),
        labels=labels,
    )
    judgement.calibration.save(invocation.out, predictors=judgement.predictors)
    plots.plot_calibration(
        invocation.out / "calibration.svg", judgement.calibration, judgement.good, judgement.bad
    )
    for name, reason in judgement.calibration.left_out.items():
        logger.warning("the signal %s is left out: %s", name, reason)
    judged = _weigh(invocation, judgement.variants, judgement.calibration)
    rejected = {task.payload[0] for task in tasks} - set(measured)
    kept = [index for index in range(len(rows)) if index not in rejected]
    settings = _settings(invocation, committed_generation(invocation.data), made_by(invocation.data))
    counts = stage.commit(tasks, _rows(reader, kept, judged), settings, SCORES)
    _say(invocation, rows=len(rows), done=len(kept), variants=len(judged))
    return counts


def reweigh(invocation: Invocation[ScoreConfig]) -> dict[str, int]:
    """Qualities and weights of a scored store again, from its signals and its calibration.

    No medium is decoded and no signal measured.

    Raises:
        RunError: If the folder holds no scored store.
    """
    if share().rank > 0:
        return {}
    out, reader = invocation.out, StoreReader(invocation.out)
    lacking = [name for name in SCORES if name not in reader.scores]
    if len(lacking) == len(SCORES):
        raise RunError(f"{out}: has no scores; score the store first, without --reweigh")
    if lacking:
        logger.warning("%s was scored without %s; score it again to have them", out, ", ".join(lacking))
    rows = reader.table.to_pylist()
    variants = Variants.of(rows, range(len(rows)), dict(enumerate(rows)))
    judged = _weigh(invocation, variants, calibrate.load(out))
    before = made_by(out)
    tasks = planning.finished(out)
    settings = _settings(invocation, before["inputs"], before)
    counts = _stage(invocation).commit(tasks, _rows(reader, range(len(rows)), judged), settings, SCORES)
    _say(invocation, rows=len(rows), done=len(rows), variants=len(judged))
    return counts


def _stage(invocation: Invocation[ScoreConfig]) -> Stage:
    return Stage("score", invocation.out, measurement.schema(), invocation.run_settings(batch_size=BATCH))


def _weigh(
    invocation: Invocation[ScoreConfig], variants: Variants, calibration: calibrate.Calibration
) -> dict[int, Row]:
    counted = calibration.of(invocation.config.counted())
    columns, summary = weigh(variants, counted, **invocation.config.weighing())
    summary["signals"] = list(counted.signals)
    if summary["without_quality"]:
        logger.warning(
            "%d variants have no quality and the least weight: no signal could be told of them",
            summary["without_quality"],
        )
    write_json(invocation.out / "weights.json", summary)
    qualities, weight = (
        np.array([row[name] for row in columns.values()], dtype=np.float64) for name in ("quality", "weight")
    )
    plots.plot_weights(invocation.out / "weights.svg", qualities, weight, variants.kinds, summary)
    return columns


def _rows(reader: StoreReader, positions: Any, judged: Mapping[int, Row]) -> Iterator[Row]:
    for index in positions:
        yield reader.row(index) | judged.get(index, unscored())


def _settings(
    invocation: Invocation[ScoreConfig], inputs: str | None, before: dict[str, Any]
) -> dict[str, Any]:
    """The record of the store; `before` is that of the store whose rows it holds."""
    return provenance.record(
        invocation,
        stage="score",
        title="Talking-face clips and diffusion-made variants with reliability weights",
        description=(
            "Each variant is judged against its own source: raw signals (`score_*`), what they are worth on"
            " this corpus (`quality_*`, in [0, 1]), and a training weight (`weight`), 1 for originals."
        ),
        inputs=inputs,
        notes=before.get("notes", ()),
    )


def _say(invocation: Invocation[ScoreConfig], *, rows: int, done: int, variants: int) -> None:
    print(
        f"score: {rows} rows in, {done} out, {variants} of them variants with a weight,"
        f" {rows - done} rejected (see {invocation.out / 'failures.jsonl'})"
    )

"""The stage: reads a store of originals and variants, and adds signals, qualities and weights.

    measure     each training row, in parts that resume (`score.measurement`)
    judge       from signals to qualities on this corpus (`score.whole_split`, `score.calibrate`)
    weigh       from qualities to weights (`score.weights`), on a scale of the corpus' own

Rows of valid and test are passed on unchanged and are neither decoded nor measured. Beside the store:
`calibration.json` and `weights.json`, each with a figure, `pairs.jsonl` and `measures.parquet`.
`python -m score --help` lists the settings.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines import provenance
from pipelines.atomic import read_json_lines, write_json
from pipelines.device import share
from pipelines.errors import RunError, UsageError
from pipelines.finished_tasks import committed_tasks
from pipelines.row import Row
from pipelines.runner import Stage, Task, check_ours
from pipelines.running.folder_lock import alone_in_its_folder
from pipelines.running.outputs import check_output
from pipelines.store import StoreReader, committed_generation, made_by
from score import calibrate, label_probability, measurement, planning, plots
from score.models import loading
from score.quality import QUALITY_AT_BAD, Calibration, load_calibration
from score.settings import ScoreConfig
from score.signals.catalogue import SIGNALS, column, of_models
from score.whole_split import Judgement, Variants, judge, unscored, weigh

if TYPE_CHECKING:
    from pipelines.settings import Invocation

logger = logging.getLogger(__name__)

BATCH = 8
WEIGHING = ("scale", "ruined", "low", "high", "gamma", "floor", "novelty")
"""The settings of `weigh`."""
SCORES = [column(name) for name in SIGNALS]


@alone_in_its_folder("a store")
def run(invocation: Invocation[ScoreConfig]) -> dict[str, int]:
    """Score a store.

    Returns:
        Rows per split; empty in all processes but the first.

    Raises:
        StageFailed: If too many rows, or all of them, failed.
    """
    config, reader = invocation.config, StoreReader(invocation.data)
    check_output(invocation.out, {"--data": invocation.data})
    labels = label_probability.read(Path(config.label_probability)) if config.label_probability else None
    lacking = loading.unavailable(config.models.names())
    names = {setting: name for setting, name in config.models.names().items() if setting not in lacking}
    set_models = {*config.models.names(), *(["label"] if labels is not None else [])}
    unasked = of_models({*loading.LOADERS, "label"} - set_models)
    _check_chosen(config.signals, {*unasked, *of_models(lacking)})
    tasks = planning.plan(
        reader,
        calibration_clips=config.calibration_clips,
        seed=invocation.seed,
        models=loading.identity(names),
    )
    if not invocation.overwrite:
        check_ours("score", invocation.out)
    measurement.forget_unless_kept(invocation.out, tasks)
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
        unavailable={name: reason for model, reason in lacking.items() for name in of_models([model])},
        unasked=unasked,
        labels=labels,
    )
    counted = _counted(config, judgement.calibration)  # refuses before anything of an earlier run is replaced
    _save(invocation.out, judgement)
    columns = _weigh(invocation, judgement.variants, counted, judgement.pairs)
    rejected = {task.payload.row for task in tasks} - set(measured)
    kept = [index for index in range(len(rows)) if index not in rejected]
    inputs, before = committed_generation(invocation.data), made_by(invocation.data)
    return _commit(invocation, stage, reader, tasks, kept, columns, inputs, before)


def _check_chosen(signals: Sequence[str] | None, missing: set[str]) -> None:
    """Refuse a choice of signals that all lack what measures them, before anything is measured."""
    if signals and missing.issuperset(signals):
        raise UsageError(
            f"score.signals: got {', '.join(signals)}, whose models are not set or not installed; choose"
            " others, or set score.models or score.label_probability"
        )


def _save(out: Path, judgement: Judgement) -> None:
    """Write the calibration with its figure and its pairs, and say which signals are left out."""
    judgement.calibration.save(out, predictors=judgement.predictors)
    judgement.pairs.save(out)
    plots.plot_calibration(out / "calibration.svg", judgement.calibration, *judgement.pairs.by_signal())
    for name, reason in judgement.calibration.left_out.items():
        logger.warning("the signal %s is left out: %s", name, reason)


@alone_in_its_folder("a store")
def reweigh(invocation: Invocation[ScoreConfig]) -> dict[str, int]:
    """Compute qualities and weights of a scored store again from its signals and its calibration.

    Nothing is decoded or measured.

    Raises:
        RunError: If the folder holds no scored store.
        UsageError: If settings ask for other signals than were measured, or for measuring.
    """
    if share().rank > 0:
        return {}
    out, reader = invocation.out, StoreReader(invocation.out)
    lacking = [name for name in SCORES if name not in reader.scores]
    if len(lacking) == len(SCORES):
        raise RunError(f"{out}: has no scores; score the store first, without --reweigh")
    if lacking:
        logger.warning("%s was scored without %s; score it again to have them", out, ", ".join(lacking))
    if not (out / calibrate.PAIRS_FILE).exists():
        logger.warning(
            "%s was scored without %s; score it again to have a scale of its own", out, calibrate.PAIRS_FILE
        )
    before, kept = made_by(out), range(reader.table.num_rows)
    invocation = _as_measured(invocation, before)
    rows = reader.table.to_pylist()
    variants = Variants.of(rows, range(len(rows)), dict(enumerate(rows)))
    counted = _counted(invocation.config, load_calibration(out))
    columns = _weigh(invocation, variants, counted, calibrate.load_pairs(out))
    tasks = [Task(row_id, key) for key, row_id in committed_tasks(out).items()]
    tasks += [Task(failure["id"], failure["key"]) for failure in read_json_lines(out / "failures.jsonl")]
    return _commit(invocation, _stage(invocation), reader, tasks, kept, columns, before.get("inputs"), before)


def _as_measured(invocation: Invocation[ScoreConfig], before: dict[str, Any]) -> Invocation[ScoreConfig]:
    """The command line with the seed and the settings that the store was measured with."""
    seed = before.get("seed", invocation.seed)
    if invocation.seed not in (0, seed):
        logger.warning("--seed: the store was measured with the seed %d, which stays", seed)
    try:
        config = invocation.config.as_measured(before.get("config", {}))
    except ValueError as error:
        raise UsageError(
            f"--reweigh: score.{error}; leave it out, or score the store again without --reweigh"
        ) from error
    return replace(invocation, config=config, seed=seed)


def _stage(invocation: Invocation[ScoreConfig]) -> Stage:
    return Stage("score", invocation.out, measurement.schema(), invocation.run_settings(batch_size=BATCH))


def _counted(config: ScoreConfig, calibration: Calibration) -> Calibration:
    """The calibration of the signals that count, weighted as the settings say.

    Raises:
        UsageError: If the store has none of those that are chosen.
    """
    counted = calibration.of(config.counted())
    if config.signals and not counted.signals:
        raise UsageError(
            f"score.signals: got {', '.join(config.signals)}, none of which could be measured; choose others,"
            " or set what they need"
        )
    lacking = set(config.signals or ()) - {*config.disabled_signals, *counted.signals}
    if lacking:
        logger.warning("score.signals: the store has no %s, which do not count", ", ".join(sorted(lacking)))
    return counted if config.signal_weights == "fitted" else counted.equally_weighted()


def _weigh(
    invocation: Invocation[ScoreConfig],
    variants: Variants,
    counted: Calibration,
    pairs: calibrate.Pairs,
) -> dict[int, Row]:
    config = invocation.config
    anchors = pairs.scale(counted)
    if anchors.basis == "default":
        logger.warning(
            "weights are on the default scale, from a quality of %g to %g: found %d good and %d bad pairs of"
            " clips, wanted at least %d of each that differ in quality",
            anchors.bad, anchors.good, anchors.good_pairs, anchors.bad_pairs, calibrate.MIN_PAIRS,
        )  # fmt: skip
    settings = {name: getattr(config, name) for name in WEIGHING}
    columns, summary = weigh(variants, counted, anchors, **settings)
    summary["signals"] = list(counted.signals)
    if summary["without_quality"]:
        logger.warning(
            "%d variants have no quality and the smallest weight: they have no signal",
            summary["without_quality"],
        )
    if summary["ruined"]:
        left_out = {
            "drop": "they have weight 0",
            "keep": "they have the smallest weight; score.ruined: drop leaves them out of training",
        }
        logger.warning(
            "%d variants are worse than mismatched and corrupted clips (weights.json lists them): %s",
            len(summary["ruined"]), left_out[config.ruined],
        )  # fmt: skip
    write_json(invocation.out / "weights.json", summary)
    qualities, weight = (
        np.array([row[name] for row in columns.values()], dtype=np.float64) for name in ("quality", "weight")
    )
    plots.plot_weights(invocation.out / "weights.svg", qualities, weight, variants.kinds, summary)
    return columns


def _commit(
    invocation: Invocation[ScoreConfig],
    stage: Stage,
    reader: StoreReader,
    tasks: Sequence[Task],
    kept: Sequence[int],
    columns: Mapping[int, Row],
    inputs: str | None,
    before: dict[str, Any],
) -> dict[str, int]:
    """Write the rows that are kept, with their new columns; returns rows per split.

    `before` is the record of the store that the rows are from.
    """
    settings = provenance.record(
        invocation,
        stage="score",
        title="Talking-face clips and diffusion-made variants with reliability weights",
        description=(
            "Each variant is compared with its own source: raw signals (`score_*`), qualities calibrated on"
            " this corpus (`quality_*`, in [0, 1]), and a training weight (`weight`), 1 for originals."
        ),
        inputs=inputs,
        notes=before.get("notes", ()),
    )
    rows = (reader.row(index) | columns.get(index, unscored()) for index in kept)
    counts = stage.commit(tasks, rows, settings, SCORES, computed=columns)
    total = reader.table.num_rows
    print(
        f"score: {total} rows in, {len(kept)} out, {len(columns)} of them variants with a weight,"
        f" {total - len(kept)} rejected (see {invocation.out / 'failures.jsonl'})",
        flush=True,
    )
    _warn_of_ruined_video(reader, columns)
    return counts


def _warn_of_ruined_video(reader: StoreReader, columns: Mapping[int, Row]) -> None:
    """Warn if half of the generated video variants are worse than what the calibration calls bad."""
    kinds = reader.table["kind"].to_pylist()
    qualities = [
        row["quality_video"]
        for index, row in columns.items()
        if kinds[index] in ("video", "both") and row["quality_video"] is not None
    ]
    middle = float(np.median(qualities)) if qualities else 1.0
    if middle < QUALITY_AT_BAD:
        logger.warning(
            "the median quality_video of %d video variants is %.2g, below the %g of another clip's video: the"
            " generator ruins these clips. Look at them (daq-msa report), set augment.video.model to a"
            " checkpoint for such clips (embedded knows drawn heads only), or leave them out"
            " (score.ruined: drop, or finetune.kinds)",
            len(qualities), middle, QUALITY_AT_BAD,
        )  # fmt: skip

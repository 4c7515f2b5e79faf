"""The command: features from a store or a pickle, a network from each seed, their metrics.

    OUT/config.json          settings, inputs of the network, versions, the command
    OUT/features/            features of a store
    OUT/model.safetensors    the network of the seed that is best on valid
    OUT/metrics.json         each seed's metrics, their mean and spread, counts of non-finite values
    OUT/predictions.parquet  seed, split, id, label, prediction
    OUT/failures.jsonl       rows whose media could not be read
    OUT/seed-N/              that seed's network, metrics, history and, during training, checkpoints;
                             steps.parquet has each step's ratios of norms, factors and conflict;
                             whole.json, written last, vouches for them

If it is started again, it resumes: finished seeds are kept, the one in training continues from its last
complete epoch, and one of which a file is broken is trained again. Under `accelerate launch`, all processes
train the same network, each on its share of a step's clips, and the first one writes.
"""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from finetune.fusion.features.arrays import FeatureSet
from finetune.fusion.features.extract import from_store
from finetune.fusion.features.file import SUFFIX, from_file
from finetune.fusion.features.mmsa_pickle import from_pickle
from finetune.fusion.network import FusionNetwork, Inputs
from finetune.fusion.run_folder import CHECKPOINT, SEED, SUMMARY, claim, claimed, finished, vouch
from finetune.fusion.settings import FusionConfig, NetworkSettings
from finetune.fusion.tracking import PROJECT, check_precision, flat, make_accelerator
from finetune.fusion.training import Trained, Trainer, inputs_of, make_network, train
from finetune.settings import check_trackers
from finetune.training.agreement import agreed
from pipelines.atomic import DamagedFile, replacing, write_json, write_json_lines, write_table
from pipelines.device import join_group, pick, share
from pipelines.durable.checkpoints import MARKER, read_json_object, remove_state, seal, whole, writing
from pipelines.errors import RunError, reason
from pipelines.provenance import record
from pipelines.running.folder_lock import alone_in_its_folder
from pipelines.running.outputs import check_output
from pipelines.store_files.parquet import read_table
from pipelines.untrusted.plain_json import parsed_json

if TYPE_CHECKING:
    from pipelines.settings import Invocation

DESCRIPTION = "A fusion network trained with a conflict-aware penalty and a statistical loss."


@alone_in_its_folder("fusion networks")
def run(invocation: Invocation[FusionConfig]) -> dict[str, Any]:
    """Train from every seed and write the summary; returns the content of `metrics.json`.

    Raises:
        UsageError: If the output folder belongs to other settings or data, and is not to be overwritten, or
            the device does not support the precision.
        RunError: If the data cannot be used.
    """
    out, config = invocation.out, invocation.config
    check_output(out, {"--data": invocation.data})
    if config.feature_cache not in ("auto", "none"):
        check_output(Path(config.feature_cache), {"--data": invocation.data}, "fusion.feature_cache")
    check_trackers("fusion.training.trackers", config.training.trackers)
    join_group(pick(config.training.device))
    check_precision(config.training)
    fingerprint = claimed(invocation)
    features, failures = read_features(invocation.data, config, out)
    first = share().rank == 0
    if first:
        _describe(invocation, features, fingerprint)
        write_json_lines(out / "failures.jsonl", failures)
    if invocation.max_failures is not None and len(failures) > invocation.max_failures:
        counts = f"{len(failures)} rows failed, --max-failures is {invocation.max_failures}"
        raise RunError(f"{counts}; see {out}/failures.jsonl")
    for seed in config.seeds:
        _train_seed(seed, features, config, out / f"seed-{seed}", fingerprint)
        if first:
            done = _read(out, seed)
            test = " ".join(f"{name} {value}" for name, value in done["test"].items())
            conflicts = f"conflicts in {done['conflict_rate']:.0%} of steps"
            print(f"seed {seed}: best epoch {done['best_epoch']}, {conflicts}; test {test}", flush=True)
    return _summarise(out, config, features, len(failures)) if first else {}


def read_features(data: Path, config: FusionConfig, out: Path) -> tuple[FeatureSet, list[dict[str, Any]]]:
    """The features of a store, a feature file or a feature pickle, and the rows of a store that failed."""
    if data.suffix == SUFFIX and data.is_file():
        return from_file(data, config.modalities, config.scale)
    if data.is_file():
        return from_pickle(data, config.modalities, config.scale), []
    cache = {"none": None, "auto": out / "features"}.get(config.feature_cache, Path(config.feature_cache))
    return from_store(data, config.modalities, config.extract, config.scale, cache)


def load(directory: str | Path, seed: int | None = None) -> FusionNetwork:
    """Load a run's network in evaluation mode: that of a seed, by default the best.

    Raises:
        RunError: If there is none.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = Path(directory)
    weights = folder / "model.safetensors" if seed is None else folder / f"seed-{seed}" / "model.safetensors"
    if not weights.is_file():
        raise RunError(
            f"{weights.parent}: no model.safetensors there; give the --out folder of a run that has ended"
        )
    config = read_json_object(folder / "config.json")
    inputs = {name: Inputs(**value) for name, value in config["inputs_of_network"].items()}
    network = FusionNetwork(inputs, NetworkSettings(**config["config"]["network"]))
    try:
        if (weights.parent / MARKER).exists():
            whole(weights.parent)
        network.load_state_dict(load_file(weights))
    except (DamagedFile, SafetensorError, RuntimeError) as error:
        damage = error if isinstance(error, DamagedFile) else f"{weights}: {reason(error)}"
        raise RunError(f"{damage}; the command of the run makes it again") from error
    return network.eval()


def _describe(invocation: Invocation[FusionConfig], features: FeatureSet, fingerprint: str) -> None:
    description = record(invocation, stage="fusion", title="fusion model", description=DESCRIPTION)
    inputs = inputs_of(features, invocation.config.network.steps)
    of_network = {name: asdict(value) for name, value in inputs.items()}
    description |= {"fingerprint": fingerprint, "inputs_of_network": of_network, "scale": features.scale}
    write_json(invocation.out / "config.json", description)


def _train_seed(
    seed: int, features: FeatureSet, config: FusionConfig, folder: Path, fingerprint: str
) -> None:
    """Train from a seed, unless it is finished."""
    from accelerate.utils import set_seed

    accelerator = make_accelerator(config.training, folder)
    if agreed(lambda: finished(folder)):
        if accelerator.is_main_process:
            remove_state(folder / CHECKPOINT)  # a kill may have left it
            claim(folder, fingerprint)
            vouch(folder)
        return
    if accelerator.is_main_process:
        claim(folder, fingerprint)
    accelerator.init_trackers(PROJECT)
    set_seed(seed)
    trainer = Trainer(
        make_network(features, config.network),
        features,
        training=config.training,
        losses=config.losses,
        conflict=config.conflict,
        balance=config.balance,
        accelerator=accelerator,
        seed=seed,
    )

    def report(record: dict[str, Any]) -> None:
        accelerator.log(flat(record), step=record["epoch"])

    trained = train(trainer, folder / CHECKPOINT, report)
    if accelerator.is_main_process:
        _write_seed(seed, trained, features, folder)
    accelerator.end_training()


def _write_seed(seed: int, trained: Trained, features: FeatureSet, folder: Path) -> None:
    from pyarrow import Table
    from safetensors.torch import save_file

    weights = {name: value.contiguous() for name, value in trained.network.state_dict().items()}
    with writing(folder), replacing(folder / "model.safetensors") as temporary:
        save_file(weights, temporary)
    write_json_lines(folder / "history.jsonl", trained.history)
    write_table(folder / "steps.parquet", Table.from_pylist(trained.steps))
    _write_predictions(folder / "predictions.parquet", seed, trained, features)
    rates = [epoch["conflict_rate"] for epoch in trained.history]
    metrics = {
        "best_epoch": trained.best_epoch,
        "epochs": len(trained.history),
        "conflict_rate": round(float(np.mean(rates)), 4),
        "modality_weights": trained.network.modality_weights(),
        **trained.metrics,
    }
    write_json(folder / "metrics.json", metrics)
    seal(folder, names=SEED)
    remove_state(folder / CHECKPOINT)


def _write_predictions(path: Path, seed: int, trained: Trained, features: FeatureSet) -> None:
    import pyarrow

    tables = [
        pyarrow.table(
            {
                "seed": [seed] * len(ratings),
                "split": [split] * len(ratings),
                "id": features.splits[split].ids,
                "label": features.splits[split].labels,
                "prediction": ratings,
            }
        )
        for split, ratings in trained.predictions.items()
    ]
    write_table(path, pyarrow.concat_tables(tables))


def _read(out: Path, seed: int) -> dict[str, Any]:
    return parsed_json((out / f"seed-{seed}" / "metrics.json").read_text(encoding="utf-8"))


def _summarise(out: Path, config: FusionConfig, features: FeatureSet, failed: int) -> dict[str, Any]:
    import pyarrow

    seeds = {seed: _read(out, seed) for seed in config.seeds}
    best = min(seeds, key=lambda seed: seeds[seed]["valid"]["MAE"])
    summary = {
        "scale": features.scale,
        "rows": {name: len(split) for name, split in features.splits.items()} | {"failed": failed},
        "not_finite": features.not_finite,
        "best_seed": best,
        "mean": {split: _over(seeds, split, np.mean) for split in ("valid", "test")},
        "spread": {split: _over(seeds, split, partial(np.std, ddof=1), 2) for split in ("valid", "test")},
        "seeds": {str(seed): own for seed, own in seeds.items()},
    }
    folders = [out / f"seed-{seed}" for seed in seeds]
    tables = [read_table(folder / "predictions.parquet") for folder in folders]
    write_table(out / "predictions.parquet", pyarrow.concat_tables(tables))
    with replacing(out / "model.safetensors") as temporary:
        temporary.write_bytes((out / f"seed-{best}" / "model.safetensors").read_bytes())
    write_json(out / "metrics.json", summary)
    seal(out, names=SUMMARY)
    return summary


def _over(
    seeds: dict[int, dict[str, Any]], split: str, reduce: Any, least: int = 1
) -> dict[str, float | None]:
    """A statistic of each metric over at least `least` seeds; None if a seed has no value."""
    statistics: dict[str, float | None] = {}
    for name in next(iter(seeds.values()))[split]:
        values = [each[split][name] for each in seeds.values()]
        missing = None in values or len(values) < least
        statistics[name] = None if missing else round(float(reduce(values)), 4)
    return statistics

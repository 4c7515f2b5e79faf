"""Compares settings of the fusion model ("arms") over several seeds, by runs of `python -m finetune.fusion`.

    python -m benchmarks.fusion.ablation --data STORE_OR_FILE --out DIR [--arms both neither] [--seeds 1 ...]

Writes `study.json`, `study.md` and `ratios.svg`: each arm's test metrics over the seeds and rate of
conflicts, the same metrics with modalities left out, `both` against `neither` over seeds and over rows,
and the ratios of gradient norms over the steps. Finished runs are not repeated, and an interrupted one is
resumed. Further options are settings of the section `fusion` as in `python -m finetune.fusion`, for all
arms; every choice in a run is made on valid.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.commands import ablation_parser, parse_ablation, require_at_least, train, write_report
from finetune.fusion.settings import FusionConfig
from pipelines.errors import call
from pipelines.settings import parse_stage

if TYPE_CHECKING:
    from pipelines.settings import Invocation

WITHOUT_SL = ("--fusion.losses.statistics", "0")
# The settings of each arm.
ARMS: dict[str, tuple[str, ...]] = {
    "neither": ("--fusion.balance.method", "none", *WITHOUT_SL),
    "cp": WITHOUT_SL,
    "sl": ("--fusion.balance.method", "none"),
    "both": (),
    # Other methods, which have no statistical loss.
    "ogm_ge": ("--fusion.balance.method", "ogm_ge", *WITHOUT_SL),
    "cggm": ("--fusion.balance.method", "cggm", *WITHOUT_SL),
    # Published with unimodal losses that count as much as the task's.
    "mmpareto": ("--fusion.balance.method", "mmpareto", "--fusion.losses.auxiliary", "1", *WITHOUT_SL),
    "constant": ("--fusion.balance.method", "constant", *WITHOUT_SL),
    # `both` with one change.
    "late_penalty": ("--fusion.conflict.start_epoch", "5"),
    "no_gate": ("--fusion.network.gate", "false"),
    "no_auxiliary": ("--fusion.losses.auxiliary", "0"),
    "no_reconstruction": ("--fusion.losses.reconstruction", "0"),
    "no_diversity": ("--fusion.losses.diversity", "0"),
}
COMPARED = ("both", "neither")


def main(argv: list[str]) -> None:
    """Run what is missing, and write the tables and the figure."""
    options, settings = _options(argv)
    invocations = {arm: invocation_of(options, arm, settings) for arm in options.arms}
    for arm, invocation in invocations.items():
        train_arm(arm, invocation)

    # Imported after the options are checked, since they load torch.
    from benchmarks.fusion.ablation_report import figures_of, markdown, plot
    from benchmarks.fusion.modality_drop import rate_without

    rate_without(invocations)
    command = f"python -m benchmarks.fusion.ablation --arms {' '.join([*options.arms, *settings])}"
    folders = {arm: invocation.out for arm, invocation in invocations.items()}
    record: dict[str, Any] = {"command": command, "data": options.data.name, "seeds": options.seeds}
    record["arms"] = {arm: figures_of(folder, options.seeds) for arm, folder in folders.items()}
    record["test"] = _compared(folders, options.seeds, options.resamples)
    plot(options.out / "ratios.svg", folders, options.seeds[0])
    write_report(options.out, record, markdown(record), name="study")


def invocation_of(options: argparse.Namespace, arm: str, settings: Sequence[str]) -> Invocation[FusionConfig]:
    """The parsed command of an arm's run.

    Raises:
        UsageError: If a setting is wrong, or the arm's folder belongs to other settings or data.
    """
    given = ["--data", str(options.data), "--out", str(options.out / arm)]
    given += ["--fusion.feature_cache", str(options.out / "features")]  # arms share a store's features
    given += ["--fusion.seeds", f"[{','.join(map(str, options.seeds))}]", *settings]
    return parse_stage(FusionConfig, "fusion", [*given, *ARMS[arm]], prog="python -m finetune.fusion")


def train_arm(arm: str, invocation: Invocation[FusionConfig]) -> None:
    """Train the seeds of an arm that are missing or damaged.

    Raises:
        UsageError: If the arm's folder belongs to other settings or data.
        RunError: If the training fails.
    """
    from benchmarks.fusion.modality_drop import FILE
    from finetune.fusion.run_folder import claimed, finished

    claimed(invocation)
    folders = [invocation.out / f"seed-{seed}" for seed in invocation.config.seeds]
    missing = [folder for folder in folders if not finished(folder)]
    if not missing:
        return
    for folder in missing:
        (folder / FILE).unlink(missing_ok=True)  # of the network before
    print(f"{arm}:", flush=True)
    options = shlex.split("--" + invocation.command.partition(" --")[2])
    train("finetune.fusion", options, invocation.out)


def _compared(folders: dict[str, Path], seeds: Sequence[int], resamples: int) -> dict[str, Any] | None:
    """Tests of `both` against `neither`; None if one of them was not run."""
    from benchmarks.fusion.significance import over_rows, over_seeds

    if not all(arm in folders for arm in COMPARED):
        return None
    one, other = (folders[arm] for arm in COMPARED)
    return {
        "arms": list(COMPARED),
        "over_seeds": over_seeds(one, other, seeds),
        "over_rows": over_rows(one, other, seeds, resamples),
    }


def _options(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = ablation_parser("python -m benchmarks.fusion.ablation", __doc__, ARMS)
    parser.add_argument("--resamples", type=int, default=10_000, help="of the bootstrap (default: 10000)")
    options, settings = parse_ablation(parser, argv, "fusion")
    require_at_least(options, resamples=1)
    return options, settings


if __name__ == "__main__":
    call(main)

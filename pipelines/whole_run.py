"""A whole run: import, augment, score, finetune, each a process that reads a folder and writes the next.

    WORK/originals -> WORK/augmented -> WORK/scored -> WORK/model, WORK/report

With `augment.retries`, augment and score alternate until no variant changes any more. Every stage resumes by
itself, so an interrupted run is continued by the same command.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any

from pipelines.device import cpu_is_wanted
from pipelines.errors import RunError, UsageError, reason
from pipelines.running.folder_lock import holder
from pipelines.running.launching import launch
from pipelines.settings import SECTIONS, parse_stage, read_recipe
from pipelines.store import committed_generation, made_by
from pipelines.untrusted.plain_json import parsed_json

# Options of every stage that processes rows, beside those of its section.
FOR_ALL = ("seed", "max-failures", "retry-failed", "overwrite")

# By section of the recipe: the program, and the folders that it reads and writes.
STAGES = {
    "corpus": ("pipelines.importing", None, "originals"),
    "augment": ("augment", "originals", "augmented"),
    "score": ("score", "augmented", "scored"),
    "finetune": ("finetune", "scored", "model"),
}

# The class of each section's settings; they are imported when a run begins.
SETTINGS = {
    "corpus": ("pipelines.importing", "ImportConfig"),
    "augment": ("augment.settings", "AugmentConfig"),
    "score": ("score.settings", "ScoreConfig"),
    "finetune": ("finetune.settings", "FinetuneConfig"),
    "fusion": ("finetune.fusion.settings", "FusionConfig"),
}
MAX_CPU_PROCESSES = 4  # each holds the models
# What `accelerate launch --mixed_precision no --dynamo_backend no` sets.
ACCELERATE = {"ACCELERATE_MIXED_PRECISION": "no", "ACCELERATE_DYNAMO_BACKEND": "no"}

DEMO_RECIPE = Path(str(files("pipelines") / "recipes" / "demo.yaml"))


def run(recipe_path: Path, work: Path | None, overrides: Sequence[str]) -> None:
    """Run every stage of a recipe, then print the metrics on the test split.

    Args:
        recipe_path: The recipe.
        work: The working folder; None takes the recipe's `work`.
        overrides: `--section.key value` arguments, each passed to the stage of its section.

    Raises:
        UsageError: If the recipe names no working folder, an override belongs to no section, or a key or
            value of any stage is wrong.
        RunError: If a stage fails or is stopped.
    """
    recipe = read_recipe(recipe_path)
    if work is None and not recipe.get("work"):
        raise UsageError(f"work: {recipe_path} names no working folder; add `work: DIR` or give --work DIR")
    work = work or Path(recipe["work"])
    given = _by_section(overrides)
    _check_settings(recipe_path, given)
    gpus, alone = _gpus(), bool(given["retry-failed"])

    def start_stage(section: str, *more: str) -> None:
        module, data, out = STAGES[section]
        arguments = ["--config", str(recipe_path), "--out", str(work / out), *given[section], *more]
        for option in FOR_ALL if section != "finetune" else ("seed", "overwrite"):
            arguments += given[option]
        if data:
            arguments += ["--data", str(work / data)]
        start(section, ["-m", module, *arguments], **_processes(section, gpus, alone=alone))

    for section in STAGES:
        start_stage(section)
        if section == "score":
            _make_again(work, start_stage)
    report = ["--out", str(work / "report"), "--model", str(work / "model")]
    start("report", ["-m", "pipelines", "report", str(work / "scored"), *report])
    print(_table(parsed_json((work / "model" / "metrics.json").read_text(encoding="utf-8"))))


def _check_settings(recipe: Path, given: dict[str, list[str]]) -> None:
    """Refuse a wrong key or value of any section before the first stage runs.

    Raises:
        UsageError: Naming the setting.
    """
    for section, (module, name) in SETTINGS.items():
        common = [argument for option in FOR_ALL for argument in given[option]]
        argv = ["--config", str(recipe), *given[section], *common]
        config_class = getattr(import_module(module), name)
        parse_stage(config_class, section, argv, prog=f"daq-msa run ({section})", needs=())


def _make_again(work: Path, start_stage: Callable[..., None]) -> None:
    """Augment by the scores and score again, as long as that changes the variants."""
    augmented, scored = work / STAGES["augment"][2], work / STAGES["score"][2]
    while made_by(augmented).get("config", {}).get("retries", {}).get("attempts"):
        before = committed_generation(augmented)
        start_stage("augment", "--scores", str(scored))
        if committed_generation(augmented) == before:
            return
        start_stage("score", "--overwrite")  # its rows of the variants that were replaced


def start(name: str, arguments: Sequence[str], *, processes: int = 1, **environment: str) -> None:
    """Print which program runs, and `launch` it."""
    print(f"== {name}", flush=True)
    try:
        launch(name, arguments, processes=processes, **environment)
    except RunError as error:
        raise RunError(f"{error}; start the same command again to continue from there") from error


def print_status(directory: Path) -> None:
    """Print how far a store, or each store in a working folder, is.

    Raises:
        RunError: If there is no status in the folder.
    """
    paths = [*directory.glob("status.json")] or sorted(directory.glob("*/status.json"))
    if not paths:
        raise RunError(
            f"{directory}: no status.json there or one folder down; name a store or a run's folder"
        )
    for path in sorted(paths, key=lambda path: path.stat().st_mtime):
        try:
            print(_status_line(path))
        except (ValueError, KeyError, TypeError) as error:
            raise RunError(
                f"{path}: is damaged ({reason(error)}); the command that made {path.parent} writes it again"
            ) from error


def _status_line(path: Path) -> str:
    status = parsed_json(path.read_text(encoding="utf-8"))
    state, end = status["state"], status["expected_end"] if status["left"] else None
    if state == "running" and holder(path.parent) is None:
        state, end = "killed", None
    expected = f", expected end {end}" if end else ""
    return (
        f"{status['stage']:<10} {state:<8} {status['done']} done, {status['failed']} failed,"
        f" {status['left']} left, {status['rows_per_second']:g} rows/s{expected}"
    )


def _by_section(overrides: Sequence[str]) -> dict[str, list[str]]:
    """Overrides by the stage that they are for, with the values after their keys."""
    given: dict[str, list[str]] = {section: [] for section in (*FOR_ALL, *SECTIONS)}
    section = None
    for argument in overrides:
        if argument.startswith("--"):
            section = argument[2:].partition("=")[0].split(".")[0]
            if section not in given:
                advice = f"give --section.key with one of {SECTIONS}"
                raise UsageError(f"{argument}: no section of a recipe; {advice}")
        if section is None:
            raise UsageError(f"{argument}: a value without a key; give --section.key value")
        given[section].append(argument)
    return given


def _gpus() -> int:
    """The number of GPUs that the stages use."""
    if cpu_is_wanted():
        return 0
    count = "import torch; print(torch.cuda.device_count())"
    return int(subprocess.run([sys.executable, "-c", count], check=True, capture_output=True).stdout)


def _processes(section: str, gpus: int, *, alone: bool) -> dict[str, Any]:
    """How many processes a stage takes, one per GPU or, on the CPU, per core, and their environment.

    The import has processes of its own. On the CPU, fine-tuning is one process that computes in threads.
    `alone` asks for one process of each stage that processes rows.
    """
    if section == "corpus":
        return {}
    cores = os.cpu_count() or 1
    one = {"processes": 1} if alone and section != "finetune" else {}
    if not gpus and section != "finetune":
        return {"processes": min(cores, MAX_CPU_PROCESSES), "OMP_NUM_THREADS": "1"} | one
    environment = {"OMP_NUM_THREADS": str(max(1, cores // (gpus or 1)))} | ACCELERATE
    environment |= {} if gpus else {"ACCELERATE_USE_CPU": "true"}
    return {"processes": gpus or 1} | environment | one


def _table(metrics: dict[str, Any]) -> str:
    """The test metrics before and after fine-tuning as a table for a terminal."""
    columns = metrics["test"]
    lines = [f"{'test split':<16}" + "".join(f"{column:>12}" for column in columns)]
    for name in dict.fromkeys(name for values in columns.values() for name in values):
        values = [column.get(name) for column in columns.values()]
        # Some metrics have no value, like a correlation with a constant.
        texts = [
            "–" if value is None else f"{value:.4f}" if isinstance(value, float) else value
            for value in values
        ]
        lines.append(f"{name:<16}" + "".join(f"{text:>12}" for text in texts))
    return "\n".join(lines)

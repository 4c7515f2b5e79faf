"""What the benchmark commands share: a store of puppets, checks of options, tables and report files."""

from __future__ import annotations

import subprocess
import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.atomic import write_json, write_text
from pipelines.errors import RunError, UsageError
from pipelines.settings import parse_stage


def import_puppets(out: Path, *, clips: int, seed: int) -> Path:
    """A store of puppets, as the section `corpus` of a recipe makes it.

    Raises:
        UsageError: If there are too few clips for a corpus.
    """
    from pipelines import importing

    argv = ["--out", str(out), "--seed", str(seed), "--corpus.clips", str(clips)]
    prog = "python -m pipelines.importing"
    importing.run(parse_stage(importing.ImportConfig, "corpus", argv, prog=prog, needs=("out",)))
    return out


def require_at_least(options: Namespace, **minimums: float) -> None:
    """Check options that are numbers or lists of numbers.

    Raises:
        UsageError: Naming the option, the lowest value and the minimum.
    """
    for name, minimum in minimums.items():
        values = getattr(options, name)
        lowest = min(values) if isinstance(values, list) else values
        if lowest < minimum:
            raise UsageError(f"--{name.replace('_', '-')}: got {lowest:g}, takes {minimum:g} or more")


def ablation_parser(prog: str, description: str | None, arms: Iterable[str]) -> ArgumentParser:
    """The options of an ablation study: data, output, settings to compare ("arms") and seeds."""
    parser = ArgumentParser(
        prog=prog, description=description, formatter_class=RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--arms", nargs="+", choices=arms, default=list(arms))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1111, 1112, 1113, 1114, 1115])
    return parser


PASSED_ON = ("--config", "--overwrite", "--max-failures")
"""Options of the training commands that a study takes for all its runs."""


def parse_ablation(parser: ArgumentParser, argv: Sequence[str], section: str) -> tuple[Namespace, list[str]]:
    """What was given of an `ablation_parser`, and the settings of all arms, keys of a recipe's section.

    Raises:
        UsageError: If a seed is given twice, or an option is neither of the parser nor a setting.
    """
    options, settings = parser.parse_known_args(argv)
    for name in settings:
        option = name.partition("=")[0]
        if option.startswith("-") and option not in PASSED_ON and not option.startswith(f"--{section}."):
            raise UsageError(f"{name}: no option of {parser.prog} and no setting of the section {section}")
    if len(set(options.seeds)) < len(options.seeds):
        raise UsageError(f"--seeds: got {' '.join(map(str, options.seeds))}, takes different numbers")
    return options, settings


def train(module: str, arguments: Sequence[str], out: Path) -> None:
    """Run a training command in a new process; it decides what of a finished run is left to do.

    Raises:
        UsageError: If it refuses its options, or a folder of other settings or data.
        RunError: If it fails.
    """
    code = subprocess.run([sys.executable, "-m", module, *arguments], check=False).returncode
    if code == 2:
        raise UsageError(f"{out}: the run was refused, for the reason above")
    if code:
        raise RunError(f"{out}: the run failed, for the reason above; start the study again to go on")


def write_report(out: Path, report: Mapping[str, Any], text: str, *, name: str = "benchmark") -> None:
    """Write `NAME.json` and `NAME.md`, and print the latter."""
    write_json(out / f"{name}.json", report)
    write_text(out / f"{name}.md", text)
    print(text, end="")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [f"| {' | '.join(cells)} |" for cells in (head, *rows)]
    return "\n".join([lines[0], f"|{'---|' * len(head)}", *lines[1:]])


def mean_and_deviation(values: Sequence[float | None]) -> str:
    """Mean ± standard deviation over runs; a dash if a run has no value."""
    known = np.array(values, dtype=np.float64)  # None becomes NaN
    if np.isnan(known).any():
        return "–"
    deviation = f" ± {known.std(ddof=1):.3f}" if len(known) > 1 else ""
    return f"{known.mean():.3f}{deviation}"

"""The campaign: `python -m tests.campaign --out DIR [--only NAME ...] [--short] [--page FILE]`.

    python -m tests.campaign --out DIR --jobs 4              everything, four trials at a time; an hour
    python -m tests.campaign --out DIR --only kill score     the kills of one stage
    python -m tests.campaign --out DIR --short               a sample of everything; minutes

Prints a line for each kind and stage, then the findings and the table. Writes the table to DIR, with all
trials in JSON and each finding with the trials that show it. The exit code is 1 if anything was found. Needs
Linux and a C compiler.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from tests.campaign import damage, kills, machine, power_loss, two_runs
from tests.campaign.findings import Trial
from tests.campaign.hostile import hub, inputs
from tests.campaign.interception import compiler, ready
from tests.campaign.programs import warm_up
from tests.campaign.stages import STAGES, Bench
from tests.campaign.table import findings, markdown, write

OF_STAGES: dict[str, Callable[..., Iterator[Trial]]] = {
    "kill": kills.trials,
    "power": power_loss.trials,
    "machine": machine.trials,
    "two": two_runs.trials,
    "damage": damage.trials,
}
ALONE: dict[str, Callable[..., Iterator[Trial]]] = {"push": hub.trials, "hostile": inputs.trials}
KINDS = (*OF_STAGES, *ALONE)
LONGEST = ("finetune", "finetune.fusion", "import")
"""Stages whose trials take longest. Begun last, they would keep one process busy, the others idle. So would
pushes, which spend their time waiting and begin first."""


def main(argv: list[str]) -> int:
    """Run the campaign; the exit code."""
    options = _options(argv)
    if not sys.platform.startswith("linux") or compiler() is None:
        print("error: the campaign needs Linux and a C compiler (cc, gcc or clang)", file=sys.stderr)
        return 2
    out = options.out.resolve()
    ready("tests.campaign", argv, out)
    warm_up((stage.module, *stage.arguments) for stage in STAGES.values())
    found = _all(out, _planned(options.only), options.short, options.jobs)
    write(out, found, options.page)
    print(f"\n{findings(found)}\n\n{markdown(found)}\n\nwritten to {out}")
    return 1 if any(trial.findings for trial in found) else 0


def _planned(only: Sequence[str]) -> list[tuple[str, str]]:
    """The kinds of trials and their stages, all of those of which none is named; some kinds have no stage."""
    kinds = [name for name in KINDS if name in only] or [*KINDS]
    stages = [name for name in STAGES if name in only] or [*STAGES]
    return [(kind, stage) for kind in kinds for stage in (stages if kind in OF_STAGES else [""])]


def _all(out: Path, planned: list[tuple[str, str]], short: bool, jobs: int) -> list[Trial]:
    """The trials of everything planned, by processes that each take what is next.

    Raises:
        RuntimeError: If one of these fails.
    """
    fork = get_context("fork")  # they have imported what the programs import
    left = fork.SimpleQueue()
    order = sorted(planned, key=lambda each: (each[0] != "push", each[1] not in LONGEST))
    for number in [*map(planned.index, order), *[None] * jobs]:
        left.put(number)
    files = [out / f"job-{job}" / "trials.jsonl" for job in range(jobs)]
    workers = [fork.Process(target=_work, args=(file, left, planned, short)) for file in files]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        if worker.exitcode:
            raise RuntimeError("the campaign was not finished, for the reason above")
    records = [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    return [Trial.of_record(record) for _, record in sorted(records, key=lambda each: each[0])]


def _work(file: Path, left: Any, planned: list[tuple[str, str]], short: bool) -> None:
    """Try what is left, in the file's folder, and write each trial with its number in the plan."""
    bench = Bench(file.parent)
    bench.build()
    with file.open("w", encoding="utf-8") as trials:
        while (number := left.get()) is not None:
            kind, stage = planned[number]
            began, count, bad = time.monotonic(), 0, 0
            for trial in (OF_STAGES | ALONE)[kind](bench, stage, short):
                count, bad = count + 1, bad + bool(trial.findings)
                trials.write(json.dumps([number, trial.record()]) + "\n")
            took = f"{time.monotonic() - began:.0f} s"
            print(f"{kind} {stage}: {count} trials, {bad} with findings, {took}", flush=True)


def _options(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--out", type=Path, required=True, help="a folder on a local disk or in memory")
    choices = [*KINDS, *STAGES]
    parser.add_argument(
        "--only", nargs="+", default=[], choices=choices, help="kinds of trials, stages, or both"
    )
    parser.add_argument("--jobs", type=int, default=1, help="how many trials at a time")
    parser.add_argument("--short", action="store_true", help="a sample of each kind")
    parser.add_argument("--page", type=Path, help="write the table between the markers of this page")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

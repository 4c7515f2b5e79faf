"""The campaign: `python -m tests.campaign --out DIR [--only NAME ...] [--short] [--page FILE]`.

    python -m tests.campaign --out DIR                       everything; hours
    python -m tests.campaign --out DIR --only kill score     the kills of one stage
    python -m tests.campaign --out DIR --short               a sample of everything; minutes

Prints each finding as it comes, then the table, which it also writes to DIR, with everything in JSON and each
finding with the trials that show it. The exit code is 1 if anything was found. Needs Linux and a C compiler.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

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


def main(argv: list[str]) -> int:
    """Run the campaign; the exit code."""
    options = _options(argv)
    if not sys.platform.startswith("linux") or compiler() is None:
        print("error: the campaign needs Linux and a C compiler (cc, gcc or clang)", file=sys.stderr)
        return 2
    out = options.out.resolve()
    ready("tests.campaign", argv, out)
    warm_up()
    bench = Bench(out)
    bench.build()
    found = list(_trials(bench, options.only, options.short))
    write(out, found, options.page)
    print(f"\n{findings(found)}\n\n{markdown(found)}\n\nwritten to {out}")
    return 1 if any(trial.findings for trial in found) else 0


def _trials(bench: Bench, only: list[str], short: bool) -> Iterator[Trial]:
    """The trials of the named kinds and stages, all of those of which none is named."""
    kinds = [name for name in KINDS if name in only] or [*KINDS]
    stages = [name for name in STAGES if name in only] or [*STAGES]
    planned = [(kind, OF_STAGES[kind], stage) for kind in kinds if kind in OF_STAGES for stage in stages]
    planned += [(kind, ALONE[kind], "") for kind in kinds if kind in ALONE]
    for kind, trials, stage in planned:
        began, count, bad = time.monotonic(), 0, 0
        for trial in trials(bench, stage, short):
            count, bad = count + 1, bad + bool(trial.findings)
            yield trial
        print(
            f"{kind} {stage}: {count} trials, {bad} with findings, {time.monotonic() - began:.0f} s",
            flush=True,
        )


def _options(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--out", type=Path, required=True, help="a folder on a local disk or in memory")
    choices = [*KINDS, *STAGES]
    parser.add_argument(
        "--only", nargs="+", default=[], choices=choices, help="kinds of trials, stages, or both"
    )
    parser.add_argument("--short", action="store_true", help="a sample of each kind")
    parser.add_argument("--page", type=Path, help="write the table between the markers of this page")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

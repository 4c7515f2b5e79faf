"""What converting a voice takes in time and memory, and how much of it the transformer.

    python -m benchmarks.voice_conversion.speed --out DIR [--model embedded] [--steps 4 10 20] \
        [--seconds 2 8 20] [--batches 1 4] [--guidance 0.7] [--threads 1] [--device auto]

A made sound for each of the lengths, converted to a made voice with each number of Euler steps and of
chunks that go through the transformer together. The real-time factor is the time that it takes over
the time that the sound lasts: below 1 it is done before the sound is over.

Each measurement has a process of its own; of `RUNS` conversions the fastest counts. Writes
`benchmark.json`, `benchmark.md` and `benchmark.svg`; every figure is of one run on one machine. Linux
only.
"""

from __future__ import annotations

import argparse
import itertools
import platform
import shlex
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import measurement
from benchmarks.measurement import MIB
from benchmarks.voice_conversion.measure import RUNS, Case, Setting, convert
from benchmarks.voice_conversion.plot import plot
from pipelines import device
from pipelines.atomic import write_json, write_text
from pipelines.errors import UsageError, call

alone = partial(measurement.alone, smaller="fewer --seconds or smaller --batches")


def main(argv: list[str]) -> None:
    """Measure and write the report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.voice_conversion.speed", description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="embedded", help="a voice converter (default: embedded)")
    parser.add_argument("--steps", type=int, nargs="+", default=[4, 10, 20], help="default: 4 10 20")
    parser.add_argument("--seconds", type=float, nargs="+", default=[2, 8, 20], help="default: 2 8 20")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4], help="chunks; default: 1 4")
    parser.add_argument("--guidance", type=float, default=0.7, help="default: 0.7; 0 runs one branch")
    parser.add_argument("--threads", type=int, default=1, help="of the CPU (default: 1)")
    parser.add_argument("--device", default="auto", help="default: auto, the best there is")
    options = parser.parse_args(argv)
    _check(options)
    cases = [
        Case(steps=steps, seconds=seconds, batch=batch)
        for seconds, batch, steps in itertools.product(
            *(sorted({*values}) for values in (options.seconds, options.batches, options.steps))
        )
    ]
    setting = Setting(
        model=options.model,
        guidance=options.guidance,
        device=device.pick(options.device),
        threads=options.threads,
    )
    report = {"command": f"{parser.prog} {shlex.join(argv)}"} | measured(setting, cases)
    write_json(options.out / "benchmark.json", report)
    write_text(options.out / "benchmark.md", markdown(report))
    plot(options.out / "benchmark.svg", report["cases"])
    print(markdown(report), end="")


def _check(options: argparse.Namespace) -> None:
    for name, least in {"steps": 1, "seconds": 0.1, "batches": 1, "threads": 1, "guidance": 0}.items():
        values = getattr(options, name)
        lowest = min(values) if isinstance(values, list) else values
        if lowest < least:
            raise UsageError(f"--{name}: got {lowest:g}, takes {least:g} or more")


def measured(setting: Setting, cases: list[Case]) -> dict[str, Any]:
    """All figures; of each length the smallest batch comes first, to which the others are compared."""
    firsts: dict[tuple[float, int], np.ndarray] = {}
    rows = []
    for case in cases:
        told = alone(convert, setting, case)
        made = told.pop("sound")
        first = firsts.setdefault((case.seconds, case.steps), made)
        rows.append(
            asdict(case)
            | told
            | {
                "real_time_factor": told["taken_s"] / case.seconds,
                "transformer_share": told["transformer_s"] / told["taken_s"],
                "largest_difference": float(np.abs(made - first).max()),
            }
        )
    machine = platform.processor() or platform.machine()
    return {"machine": machine, **asdict(setting), "runs": RUNS, "cases": rows}


def markdown(report: dict[str, Any]) -> str:
    """The report in words and numbers."""
    parameters = report["cases"][0]["parameters"] / 1e6
    lines = [
        f"`{report['command']}`: {report['model']}, its transformer of {parameters:.1f} M parameters,"
        f" guidance {report['guidance']:g}, on {report['device']} ({report['machine']}),"
        f" {report['threads']} thread(s). The fastest of {report['runs']}; memory is the peak above the"
        " loaded networks.",
        "",
        "| seconds | batch | steps | taken, s | real-time factor | in the transformer | passes | MiB |"
        " difference |",
        f"|{'---|' * 9}",
        *(_line(row) for row in report["cases"]),
    ]
    return "\n".join(lines) + "\n"


def _line(row: dict[str, Any]) -> str:
    cells = [
        f"{row['seconds']:g}",
        *(str(row[name]) for name in ("batch", "steps")),
        f"{row['taken_s']:.2f}",
        f"{row['real_time_factor']:.3f}",
        f"{row['transformer_share']:.0%}",
        str(row["passes"]),
        f"{row['bytes'] / MIB:.0f}",
        f"{row['largest_difference']:.0e}",
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    call(main)

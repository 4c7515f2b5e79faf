"""Time and memory of voice conversion, and the transformer's share of the time.

    python -m benchmarks.voice_conversion.speed --out DIR [--model embedded] [--steps 4 10 20] \
        [--seconds 2 8 20] [--batches 1 4] [--guidance 0.7] [--threads 1] [--device auto]

Synthetic audio of each length is converted to a synthetic voice with each number of Euler steps and each
number of chunks per batch. The real-time factor is the time of the conversion over the length of the
audio.

Each measurement has its own process; of `RUNS` conversions the fastest counts. Writes `benchmark.json`,
`benchmark.md` and `benchmark.svg`; every figure is of one run on one machine. Linux only.
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

from benchmarks.commands import require_at_least, table, write_report
from benchmarks.measurement import MIB, in_new_process
from benchmarks.speed_plots import CONVERSION_MEASURES, draw_conversions
from benchmarks.voice_conversion.measure import RUNS, Case, Setting, convert
from pipelines import device
from pipelines.errors import call
from pipelines.figures import drawn

isolated = partial(in_new_process, smaller="fewer --seconds or smaller --batches")


def main(argv: list[str]) -> None:
    """Measure and write the report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.voice_conversion.speed", description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="embedded", help="a voice converter (default: embedded)")
    parser.add_argument("--steps", type=int, nargs="+", default=[4, 10, 20], help="default: 4 10 20")
    parser.add_argument("--seconds", type=float, nargs="+", default=[2, 8, 20], help="default: 2 8 20")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4], help="chunks; default: 1 4")
    parser.add_argument("--guidance", type=float, default=0.7, help="default: 0.7; 0 runs one branch")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    parser.add_argument("--device", default="auto", help="default: auto, the best there is")
    options = parser.parse_args(argv)
    require_at_least(options, steps=1, seconds=0.1, batches=1, threads=1, guidance=0)
    values = itertools.product(
        *(sorted({*each}) for each in (options.seconds, options.batches, options.steps))
    )
    cases = [Case(seconds=seconds, batch=batch, steps=steps) for seconds, batch, steps in values]
    setting = Setting(
        model=options.model,
        guidance=options.guidance,
        device=device.pick(options.device),
        threads=options.threads,
    )
    report = {"command": f"{parser.prog} {shlex.join(argv)}"} | measured(setting, cases)
    write_report(options.out, report, markdown(report))
    path = options.out / "benchmark.svg"
    with drawn(path, len(CONVERSION_MEASURES), width=4.2, height=3.4, below=1.0) as axes:
        draw_conversions(axes, report["cases"])


def measured(setting: Setting, cases: list[Case]) -> dict[str, Any]:
    """All figures; for each length the smallest batch comes first, and the others are compared with it."""
    firsts: dict[tuple[float, int], np.ndarray] = {}
    rows = []
    for case in cases:
        figures = isolated(convert, setting, case)
        samples = figures.pop("samples")
        first = firsts.setdefault((case.seconds, case.steps), samples)
        shares = {
            "real_time_factor": figures["taken_s"] / case.seconds,
            "transformer_share": figures["transformer_s"] / figures["taken_s"],
            "largest_difference": float(np.abs(samples - first).max()),
        }
        rows.append(asdict(case) | figures | shares)
    machine = platform.processor() or platform.machine()
    return {"machine": machine, **asdict(setting), "runs": RUNS, "cases": rows}


def markdown(report: dict[str, Any]) -> str:
    """The report as Markdown."""
    parameters = report["cases"][0]["parameters"] / 1e6
    summary = (
        f"`{report['command']}`: {report['model']}, its transformer of {parameters:.1f} M parameters,"
        f" guidance {report['guidance']:g}, on {report['device']} ({report['machine']}),"
        f" {report['threads']} thread(s). The fastest of {report['runs']}; memory is the peak above the"
        " loaded networks."
    )
    rows = [
        [
            f"{row['seconds']:g}",
            *(str(row[name]) for name in ("batch", "steps")),
            f"{row['taken_s']:.2f}",
            f"{row['real_time_factor']:.3f}",
            f"{row['transformer_share']:.0%}",
            str(row["passes"]),
            f"{row['bytes'] / MIB:.0f}",
            f"{row['largest_difference']:.0e}",
        ]
        for row in report["cases"]
    ]
    head = "seconds | batch | steps | taken, s | real-time factor | in the transformer | passes | MiB"
    return f"{summary}\n\n{table([*head.split(' | '), 'difference'], rows)}\n"


if __name__ == "__main__":
    call(main)

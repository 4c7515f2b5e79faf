"""Time and memory of FateZero edits, compared with the same edits with stored attention maps.

    python -m benchmarks.fatezero.speed --out DIR [--model embedded] [--steps 5 10 20] [--frames 4 8] \
        [--sizes 128 256] [--clips 1000] [--threads 1] [--device auto]

**Edits.** A clip of noise for each number of steps and frames and each size, edited to watercolor as
published: by `augment.fatezero.pipeline`, and by `benchmarks.fatezero.reference` if its maps fit into
memory. Both use the same weights; without `--model` they are random weights of a small UNet, so the
benchmark says nothing about the quality of edits.

**Styles.** One clip into one style and into three, which share an inversion.

**Clips.** Many tiny clips one after another: the memory of the process must not grow.

Each measurement has its own process. Writes `benchmark.json`, `benchmark.md` and `benchmark.svg`; every
figure is of one run on one machine. Linux only.
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
from benchmarks.fatezero.measure import FIRST_CLIPS, Case, Setting, clips, edit, styles
from benchmarks.measurement import MIB, in_new_process
from benchmarks.speed_plots import EDIT_MEASURES, METHODS, draw_edits
from pipelines import device
from pipelines.errors import UsageError, call
from pipelines.figures import drawn

isolated = partial(in_new_process, smaller="smaller --sizes or fewer --frames or --steps")


def main(argv: list[str]) -> None:
    """Measure and write the report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fatezero.speed", description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", help="`embedded`, or a folder or Hub id of Stable Diffusion 1.x")
    parser.add_argument("--steps", type=int, nargs="+", default=[5, 10, 20], help="default: 5 10 20")
    parser.add_argument("--frames", type=int, nargs="+", default=[4, 8], help="default: 4 8")
    parser.add_argument("--sizes", type=int, nargs="+", default=[128, 256], help="pixels; default: 128 256")
    parser.add_argument("--clips", type=int, default=1000, help="edited one after another (default: 1000)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    parser.add_argument("--device", default="auto", help="default: auto, the best there is")
    options = parser.parse_args(argv)
    require_at_least(options, steps=1, frames=2, sizes=1, threads=1)
    if max(options.steps) > 1000:
        raise UsageError(f"--steps: got {max(options.steps)}, takes at most 1000")
    if options.clips <= FIRST_CLIPS:
        raise UsageError(
            f"--clips: got {options.clips}, takes more than the {FIRST_CLIPS} after which memory is compared"
        )
    values = itertools.product(*(sorted({*each}) for each in (options.sizes, options.frames, options.steps)))
    cases = [Case(size=size, frames=frames, steps=steps) for size, frames, steps in values]
    setting = Setting(model=options.model, device=device.pick(options.device), threads=options.threads)
    report = {"command": f"{parser.prog} {shlex.join(argv)}"} | measured(setting, cases, options.clips)
    write_report(options.out, report, markdown(report))
    with drawn(options.out / "benchmark.svg", len(EDIT_MEASURES), width=4.6, height=3.4, below=0.8) as axes:
        draw_edits(axes, report["cases"])


def measured(setting: Setting, cases: list[Case], count: int) -> dict[str, Any]:
    """All figures; `cases` are ordered by size, frames and steps."""
    largest = cases[-1]
    shortest = Case(steps=cases[0].steps, frames=largest.frames, size=largest.size)
    return {
        "machine": platform.processor() or platform.machine(),
        **asdict(setting),
        "cases": [compared(setting, case) for case in cases],
        "styles": asdict(shortest) | isolated(styles, setting, shortest),
        "clips": {"count": count} | isolated(clips, setting, count),
    }


def compared(setting: Setting, case: Case) -> dict[str, Any]:
    """Figures of one edit by both methods, and their ratios if both could be measured."""
    figures: dict[str, Any] = {method: isolated(edit, setting, case, method) for method in METHODS}
    ours, reference = figures.values()
    row = asdict(case) | figures
    row["unet_share"] = ours["unet_s"] / ours["seconds"]
    row["bare_share"] = ours["bare_s"] / ours["seconds"]
    frames = ours.pop("frames")
    if "left_out" not in reference:
        row["largest_difference"] = float(np.abs(frames - reference.pop("frames")).max())
        row["times_as_fast"] = reference["seconds"] / ours["seconds"]
        row["share_of_memory"] = ours["bytes"] / reference["bytes"]
    return row


def markdown(report: dict[str, Any]) -> str:
    """The report as Markdown."""
    parameters = report["cases"][0]["ours"]["parameters"] / 1e6
    summary = (
        f"`{report['command']}`: {report['model'] or 'a seeded model'}, its UNet of {parameters:.1f} M"
        f" parameters, on {report['device']} ({report['machine']}), {report['threads']} thread(s). Memory is"
        " the peak above the loaded networks. In the UNet: share of our time inside its passes; bare: time of"
        " the same passes alone in the unmodified UNet, as a share of our time. Difference: the largest"
        " between the frames of both methods, which are in [0, 1]."
    )
    head = (
        "steps | frames | size | ours, s | reference, s | times as fast | ours, MiB | reference, MiB"
        " | share of memory | in the UNet | bare | difference"
    )
    left_out = [
        f"The reference's {row['steps']} steps, {row['frames']} frames, {row['size']} pixels were not tried:"
        f" {row['reference']['left_out']}."
        for row in report["cases"]
        if "left_out" in row["reference"]
    ]
    cases = table(head.split(" | "), [_cells(row) for row in report["cases"]])
    parts = [summary, cases, *left_out, _styles_text(report["styles"]), _clips_text(report["clips"])]
    return "\n\n".join(parts) + "\n"


def _cells(row: dict[str, Any]) -> list[str]:
    ours, reference, both = row["ours"], row["reference"], "left_out" not in row["reference"]
    return [
        *(str(row[name]) for name in ("steps", "frames", "size")),
        f"{ours['seconds']:.2f}",
        f"{reference['seconds']:.2f}" if both else "",
        f"{row['times_as_fast']:.2f}" if both else "",
        f"{ours['bytes'] / MIB:.0f}",
        f"{reference['bytes'] / MIB:.0f}" if both else "",
        f"{row['share_of_memory']:.3f}" if both else "",
        f"{row['unet_share']:.0%}",
        f"{row['bare_share']:.0%}",
        f"{row['largest_difference']:.0e}" if both else "",
    ]


def _styles_text(figures: dict[str, Any]) -> str:
    one, many = figures["one"], figures["many"]
    return (
        f"{many['styles']} styles of one clip (steps {figures['steps']}, frames {figures['frames']}, size"
        f" {figures['size']}) take {many['seconds'] / one['seconds']:.2f} times as long as one"
        f" ({one['seconds']:.2f} s). Passes of the UNet that invert: {many['inversion_passes']}, for one"
        f" style {one['inversion_passes']}; that edit: {many['passes'] - many['inversion_passes']}, for one"
        f" style {one['passes'] - one['inversion_passes']}."
    )


def _clips_text(figures: dict[str, Any]) -> str:
    first, last = figures["bytes_first"], figures["bytes_last"]
    return (
        f"{figures['count']} clips of {figures['frames']} frames of {figures['size']} pixels, one after"
        f" another: the process holds {first / MIB:.1f} MiB after {FIRST_CLIPS} and {last / MIB:.1f} MiB"
        f" after the last ({last / first - 1:+.2%})."
    )


if __name__ == "__main__":
    call(main)

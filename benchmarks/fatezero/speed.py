"""What FateZero edits take in time and memory, beside the same edits with stored attention maps.

    python -m benchmarks.fatezero.speed --out DIR [--model embedded] [--steps 5 10 20] [--frames 4 8] \
        [--sizes 128 256] [--clips 1000] [--threads 1] [--device auto]

**Edits.** A clip of noise for each of the steps, frames and sizes, edited to watercolor as published:
by `augment.fatezero.pipeline`, and by `benchmarks.fatezero.reference` where its maps fit into memory.
Both use the same weights; without `--model` those are seeded ones of a small UNet, so nothing is said
of pictures.

**Styles.** One clip into one style and into three: the inversion is paid once.

**Clips.** Many tiny clips one after another: what the process holds must not grow.

Each measurement has a process of its own. Writes `benchmark.json`, `benchmark.md` and
`benchmark.svg`; every figure is of one run on one machine. Linux only.
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
from benchmarks.fatezero.cases import FIRST_CLIPS, Case, Setting
from benchmarks.fatezero.plot import WAYS, plot
from benchmarks.measurement import MIB
from pipelines import device
from pipelines.atomic import write_json, write_text
from pipelines.errors import UsageError, call

alone = partial(measurement.alone, smaller="smaller --sizes or fewer --frames or --steps")


def main(argv: list[str]) -> None:
    """Measure and write the report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fatezero.speed", description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", help="`embedded`, or a folder or Hub id of Stable Diffusion 1.x")
    parser.add_argument("--steps", type=int, nargs="+", default=[5, 10, 20], help="default: 5 10 20")
    parser.add_argument("--frames", type=int, nargs="+", default=[4, 8], help="default: 4 8")
    parser.add_argument("--sizes", type=int, nargs="+", default=[128, 256], help="pixels; default: 128 256")
    parser.add_argument("--clips", type=int, default=1000, help="edited one after another (default: 1000)")
    parser.add_argument("--threads", type=int, default=1, help="of the CPU (default: 1)")
    parser.add_argument("--device", default="auto", help="default: auto, the best there is")
    options = parser.parse_args(argv)
    _check(options)
    cases = [
        Case(steps=steps, frames=frames, size=size)
        for size, frames, steps in itertools.product(
            *(sorted({*values}) for values in (options.sizes, options.frames, options.steps))
        )
    ]
    setting = Setting(model=options.model, device=device.pick(options.device), threads=options.threads)
    report = {"command": f"{parser.prog} {shlex.join(argv)}"} | measured(setting, cases, options.clips)
    write_json(options.out / "benchmark.json", report)
    write_text(options.out / "benchmark.md", markdown(report))
    plot(options.out / "benchmark.svg", report["cases"])
    print(markdown(report), end="")


def _check(options: argparse.Namespace) -> None:
    for name in ("steps", "frames", "sizes", "threads"):
        values = getattr(options, name)
        lowest = min(values) if isinstance(values, list) else values
        least = 2 if name == "frames" else 1
        if lowest < least:
            raise UsageError(f"--{name}: got {lowest}, takes {least} or more")
    if max(options.steps) > 1000:
        raise UsageError(f"--steps: got {max(options.steps)}, takes at most 1000")
    if options.clips <= FIRST_CLIPS:
        raise UsageError(
            f"--clips: got {options.clips}, takes more than the {FIRST_CLIPS} after which memory is compared"
        )


def measured(setting: Setting, cases: list[Case], count: int) -> dict[str, Any]:
    """All figures; `cases` are ordered by size, frames and steps."""
    from benchmarks.fatezero.measure import clips, styles

    rows = [beside(setting, case) for case in cases]
    largest = cases[-1]
    shortest = Case(steps=cases[0].steps, frames=largest.frames, size=largest.size)
    return {
        "machine": platform.processor() or platform.machine(),
        **asdict(setting),
        "cases": rows,
        "styles": asdict(shortest) | alone(styles, setting, shortest),
        "clips": {"count": count} | alone(clips, setting, count),
    }


def beside(setting: Setting, case: Case) -> dict[str, Any]:
    """Both ways of one edit, and the ratios of their figures where both could be measured."""
    from benchmarks.fatezero.measure import edit

    told: dict[str, Any] = {way: alone(edit, setting, case, way) for way in WAYS}
    ours, textbook = told.values()
    row = asdict(case) | told
    row["unet_share"] = ours["unet_s"] / ours["seconds"]
    row["bare_share"] = ours["bare_s"] / ours["seconds"]
    made = ours.pop("frames")
    if "left_out" not in textbook:
        row["largest_difference"] = float(np.abs(made - textbook.pop("frames")).max())
        row["times_as_fast"] = textbook["seconds"] / ours["seconds"]
        row["share_of_memory"] = ours["bytes"] / textbook["bytes"]
    return row


def markdown(report: dict[str, Any]) -> str:
    """The report in words and numbers."""
    parameters = report["cases"][0]["ours"]["parameters"] / 1e6
    lines = [
        f"`{report['command']}`: {report['model'] or 'a seeded model'}, its UNet of {parameters:.1f} M"
        f" parameters, on {report['device']} ({report['machine']}), {report['threads']} thread(s). Memory is"
        " the peak above the loaded networks. In the UNet: share of our time inside its passes; bare: what"
        " the same passes take alone, in the UNet as it was loaded, as a share of our time. Difference: the"
        " largest between the ways' frames, which are in [0, 1].",
        "",
        "| steps | frames | size | ours, s | textbook, s | times as fast | ours, MiB | textbook, MiB"
        " | share of memory | in the UNet | bare | difference |",
        f"|{'---|' * 12}",
        *(_case_line(row) for row in report["cases"]),
        *_left_out(report["cases"]),
        "",
        _styles_text(report["styles"]),
        "",
        _clips_text(report["clips"]),
    ]
    return "\n".join(lines) + "\n"


def _case_line(row: dict[str, Any]) -> str:
    both = "left_out" not in row["textbook"]
    cells = [
        *(str(row[name]) for name in ("steps", "frames", "size")),
        f"{row['ours']['seconds']:.2f}",
        f"{row['textbook']['seconds']:.2f}" if both else "",
        f"{row['times_as_fast']:.2f}" if both else "",
        f"{row['ours']['bytes'] / MIB:.0f}",
        f"{row['textbook']['bytes'] / MIB:.0f}" if both else "",
        f"{row['share_of_memory']:.3f}" if both else "",
        f"{row['unet_share']:.0%}",
        f"{row['bare_share']:.0%}",
        f"{row['largest_difference']:.0e}" if both else "",
    ]
    return f"| {' | '.join(cells)} |"


def _left_out(rows: list[dict[str, Any]]) -> list[str]:
    return [
        f"\nThe textbook's {row['steps']} steps, {row['frames']} frames, {row['size']} pixels were not tried:"
        f" {row['textbook']['left_out']}."
        for row in rows
        if "left_out" in row["textbook"]
    ]


def _styles_text(told: dict[str, Any]) -> str:
    one, many = told["one"], told["many"]
    return (
        f"{many['styles']} styles of one clip (steps {told['steps']}, frames {told['frames']}, size"
        f" {told['size']}) take {many['seconds'] / one['seconds']:.2f} times as long as one"
        f" ({one['seconds']:.2f} s). Passes of the UNet that invert: {many['inversion_passes']}, for one"
        f" style {one['inversion_passes']}; that edit: {many['passes'] - many['inversion_passes']}, for one"
        f" style {one['passes'] - one['inversion_passes']}."
    )


def _clips_text(told: dict[str, Any]) -> str:
    first, last = told["bytes_first"], told["bytes_last"]
    return (
        f"{told['count']} clips of {told['frames']} frames of {told['size']} pixels, one after another: the"
        f" process holds {first / MIB:.1f} MiB after {FIRST_CLIPS} and {last / MIB:.1f} MiB after the last"
        f" ({last / first - 1:+.2%})."
    )


if __name__ == "__main__":
    call(main)

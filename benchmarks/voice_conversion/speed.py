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
import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.commands import require_at_least, table, write_report
from benchmarks.measurement import MIB, in_new_process, peak_bytes, reset_peak, watched
from benchmarks.speed_plots import CONVERSION_MEASURES, draw_conversions
from pipelines import device
from pipelines.errors import UsageError, call
from pipelines.figures import drawn

RUNS = 3
"""Conversions, of which the fastest counts: other programs on the machine only make them slower."""
SAMPLING_RATE = 16_000
REFERENCE_S = 8.0
"""Length of the reference audio, as for a variant by default."""

isolated = partial(in_new_process, smaller="fewer --seconds or smaller --batches")


@dataclass(frozen=True, kw_only=True)
class Case:
    """One conversion."""

    steps: int
    """Euler steps."""
    seconds: float
    """Length of the audio."""
    batch: int
    """Chunks of the audio per batch of the transformer."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Model and device of a run."""

    model: str
    """`embedded`, or a directory or Hub id of a voice converter."""
    guidance: float
    device: str
    threads: int
    """CPU threads."""


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


def convert(setting: Setting, case: Case) -> dict[str, Any]:
    """Measure one conversion.

    Returns:
        `taken_s`; `transformer_s`, seconds inside the transformer's passes, and `passes`, their number;
        `bytes`, the peak above the loaded networks, at least 1; `parameters` of the transformer;
        `samples`, the result.

    Raises:
        UsageError: If the model cannot be loaded.
    """
    import diffusers
    import torch

    from augment.audio.flow_matching_converter import load_converter

    torch.set_num_threads(setting.threads)
    diffusers.utils.logging.disable_progress_bar()
    try:
        pipeline = load_converter(setting.model, None, setting.device)
    except UsageError as error:
        raise UsageError("--model" + str(error).removeprefix("augment.audio.model")) from error
    audio, reference = tone(case.seconds, 120.0), tone(REFERENCE_S, 200.0)

    def call(steps: int, audio: np.ndarray) -> np.ndarray:
        return pipeline(
            audio,
            reference,
            sampling_rate=SAMPLING_RATE,
            num_inference_steps=steps,
            guidance_scale=setting.guidance,
            batch_size=case.batch,
            generator=torch.Generator().manual_seed(0),
        )

    call(1, audio[: SAMPLING_RATE // 2])  # so that start-up is not measured
    before = reset_peak(setting.device)
    times = []
    for _ in range(RUNS):
        with watched(pipeline.transformer, setting.device) as passes:
            started = time.perf_counter()
            samples = call(case.steps, audio)
            times.append((time.perf_counter() - started, passes.seconds))
    taken_s, transformer_s = min(times)
    return {
        "taken_s": taken_s,
        "transformer_s": transformer_s,
        "passes": len(passes.rows),
        "bytes": max(1, peak_bytes(setting.device) - before),
        "parameters": pipeline.transformer.num_parameters(),
        "samples": samples,
    }


def tone(seconds: float, hertz: float) -> np.ndarray:
    """Harmonics of a gliding pitch, modulated like syllables: float32 (samples,) at 16 kHz.

    The time of a conversion does not depend on the content.
    """
    times = np.arange(round(seconds * SAMPLING_RATE)) / SAMPLING_RATE
    phase = 2 * np.pi * np.cumsum(hertz * (1 + 0.1 * np.sin(2 * np.pi * times))) / SAMPLING_RATE
    samples = sum(np.sin(harmonic * phase) / harmonic for harmonic in range(1, 16))
    return (0.05 * samples * (0.6 + 0.4 * np.sin(6 * np.pi * times))).astype(np.float32)


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

"""The speed and memory of an import, against another checkout of this project.

    python -m benchmarks.importing --baseline CHECKOUT --out DIR [--clips 200] [--corpus mosi DIR] [--runs 3]

Both import the same corpus in turn, as users start it: puppets, which are written first, or a corpus on disk.
Memory is the largest sum over the import's processes, pages that several share counted once. Writes
`benchmark.json` and `benchmark.md`. Linux only.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from shutil import rmtree
from statistics import median
from typing import NamedTuple

import psutil

from benchmarks.commands import require_at_least, table, write_report
from benchmarks.measurement import MIB
from pipelines.errors import RunError, UsageError, call
from pipelines.store import StoreReader

HERE = Path(__file__).resolve().parents[1]
EVERY_S = 0.02  # between two readings of the memory


class Run(NamedTuple):
    """One import."""

    frames: int
    seconds: float
    peak_bytes: int


def main(argv: list[str]) -> None:
    """Import in turn, and write the report."""
    options = _options(argv)
    if not (options.baseline / "pipelines" / "__main__.py").is_file():
        raise UsageError(f"--baseline: {options.baseline} is no checkout of this project")
    corpus = options.corpus or ["folder", str(write_puppets(options.out / "puppets", options.clips))]
    checkouts = {"baseline": options.baseline.resolve(), "here": HERE}
    runs: dict[str, list[Run]] = {name: [] for name in checkouts}
    for _ in range(options.runs):
        for name, checkout in checkouts.items():
            runs[name].append(run(checkout, corpus, options.out / name))
    best = {name: min(each.seconds / each.frames for each in all_runs) for name, all_runs in runs.items()}
    peak = {name: median(each.peak_bytes for each in all_runs) for name, all_runs in runs.items()}
    rows = [
        [name, f"{1 / best[name]:.0f}", f"{best['baseline'] / best[name]:.2f}", f"{peak[name] / MIB:.0f} MiB"]
        for name in checkouts
    ]
    text = table(["checkout", "frames a second, best run", "speed", "peak memory, median"], rows) + "\n"
    report = {name: [each._asdict() for each in all_runs] for name, all_runs in runs.items()}
    write_report(options.out, {"corpus": corpus, "runs": report}, text)


def write_puppets(folder: Path, clips: int) -> Path:
    """The table of a corpus of puppets."""
    from pipelines.puppets.corpus import write_corpus

    folder.mkdir(parents=True, exist_ok=True)
    write_corpus(folder, clips=clips, seed=0)
    return folder / "label.csv"


def run(checkout: Path, corpus: list[str], out: Path) -> Run:
    """Import a corpus (its layout and path) by a checkout's code.

    Raises:
        RunError: If the import fails.
    """
    rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "pipelines", "import", *corpus, "--out", str(out.resolve())]
    began = time.perf_counter()
    with subprocess.Popen(
        command, cwd=checkout, env=os.environ | {"PYTHONPATH": str(checkout)}, stdout=subprocess.DEVNULL
    ) as process:
        peak = 0
        while process.poll() is None:
            peak = max(peak, memory_bytes(process.pid))
            time.sleep(EVERY_S)
        seconds = time.perf_counter() - began
    if process.returncode:
        raise RunError(f"{checkout}: the import failed, for the reason above")
    times = StoreReader(out).table.select(["duration_s", "fps"]).to_pylist()
    frames = sum(round(row["duration_s"] * row["fps"]) for row in times if row["fps"])
    return Run(frames=frames, seconds=seconds, peak_bytes=peak)


def memory_bytes(pid: int) -> int:
    """The memory of a process and those that it started, shared pages counted once."""
    total = 0
    try:
        for process in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True)):
            total += process.memory_full_info().pss
    except psutil.Error:  # one has just ended
        pass
    return total


def _options(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.importing",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--baseline", type=Path, required=True, metavar="CHECKOUT")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--corpus", nargs=2, metavar=("LAYOUT", "PATH"), help="instead of puppets")
    parser.add_argument("--clips", type=int, default=200, help="of puppets")
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args(argv)
    require_at_least(options, clips=8, runs=1)
    return options


if __name__ == "__main__":
    call(main)

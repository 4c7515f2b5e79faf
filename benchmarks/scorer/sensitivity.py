"""What the scorer sees and hears: clips spoiled by known means and grades, scored as any store is.

    python -m benchmarks.scorer.sensitivity --out DIR [--clips 96 | --data STORE] [--seed 0]

    DIR/originals   a store of puppets, imported as any corpus is; not where a store is named
    DIR/spoiled     each training clip, and a variant of it for each means and grade
    (`benchmarks.scorer.corruptions`) DIR/scored      what `score.run` makes of them, settings as
    shipped

`benchmark.json`, `benchmark.md` and `benchmark.svg` there say, by means and grade, what became of their
qualities.
A generator's faults come together and in amounts that nobody knows; this says nothing of them.
"""

from __future__ import annotations

import argparse
import json
import shlex
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.scorer.corruptions import MEANS, Means
from benchmarks.scorer.dataset import write_spoiled
from benchmarks.scorer.plot import plot_benchmark
from benchmarks.scorer.report import markdown, summarise
from pipelines.atomic import write_json, write_text
from pipelines.errors import UsageError, call
from pipelines.settings import parse_stage
from pipelines.store import StoreReader


def import_puppets(out: Path, *, clips: int, seed: int) -> Path:
    """A store of puppets, as the section `corpus` of a recipe makes it.

    Raises:
        UsageError: If there are too few clips for a corpus.
    """
    from pipelines import importing

    argv = ["--out", str(out), "--seed", str(seed), "--corpus.clips", str(clips)]
    invocation = parse_stage(importing.ImportConfig, "corpus", argv, prog="daq-msa import", needs=("out",))
    importing.run(invocation)
    return out


def run(
    data: Path,
    out: Path,
    *,
    seed: int,
    puppets_seed: int | None = None,
    means: Mapping[str, Means] = MEANS,
    command: str = "",
) -> dict[str, Any]:
    """Spoil the training clips of a store, score them, and write the report.

    Args:
        data: The store.
        out: The folder of `spoiled`, `scored` and the report's three files.
        seed: Of all that is drawn.
        puppets_seed: Of the puppets that the store consists of, which are then drawn again in another mood.
        means: How to spoil; with `CONTROLS` of each track.
        command: For the records.

    Returns:
        What `benchmark.json` holds.
    """
    from score.run import ScoreConfig, reweigh
    from score.run import run as score

    made = write_spoiled(
        data, out / "spoiled", seed=seed, puppets_seed=puppets_seed, means=means, command=command
    )
    argv = ["--data", str(out / "spoiled"), "--out", str(out / "scored"), "--seed", str(seed)]
    started = time.process_time()
    invocation = parse_stage(ScoreConfig, "score", argv, prog="python -m score")
    score(invocation)
    # Of the processor and not of the clock, so that a busy machine measures the same.
    scored_s = time.process_time() - started
    reweigh(invocation)
    reweighed_s = time.process_time() - started - scored_s
    summary = summarise(out / "scored", means)
    clips = StoreReader(out / "spoiled").table
    calibration = json.loads((out / "scored" / "calibration.json").read_text(encoding="utf-8"))
    report = {
        "command": command,
        "clips": clips.num_rows - made,
        "mean_duration_s": float(np.mean(clips["duration_s"].to_numpy())),
        "variants": made,
        "rejected": made - sum(grade["rows"] for told in summary.values() for grade in told["grades"]),
        "clips_per_processor_second": clips.num_rows / scored_s,
        "reweighed_rows_per_processor_second": clips.num_rows / reweighed_s,
        "predictors": calibration["predictors"],
        "left_out": calibration["left_out"],
        "means": summary,
    }
    write_json(out / "benchmark.json", report)
    write_text(out / "benchmark.md", markdown(report))
    plot_benchmark(out / "benchmark.svg", report)
    return report


def main(argv: list[str]) -> None:
    """Make the clips, score them, and print the table."""
    prog = "python -m benchmarks.scorer.sensitivity"
    parser = argparse.ArgumentParser(prog=prog, description="Scores clips that are spoiled by known means.")
    parser.add_argument("--out", type=Path, required=True, help="a new or an empty folder")
    parser.add_argument("--clips", type=int, default=96, help="puppets over all splits (default: 96)")
    parser.add_argument("--data", type=Path, help="a store of clips to spoil instead of puppets")
    parser.add_argument("--seed", type=int, default=0, help="of all that is drawn (default: 0)")
    options = parser.parse_args(argv)
    if options.out.exists() and any(options.out.iterdir()):
        raise UsageError(f"--out: {options.out} is not empty, and speed is that of a whole run; name another")
    originals = options.data or import_puppets(
        options.out / "originals", clips=options.clips, seed=options.seed
    )
    run(
        originals,
        options.out,
        seed=options.seed,
        puppets_seed=None if options.data else options.seed,
        command=f"{prog} {shlex.join(argv)}",
    )
    print((options.out / "benchmark.md").read_text(encoding="utf-8"), end="")


if __name__ == "__main__":
    call(main)

"""Sensitivity of the scorer: clips with corruptions of known severity, scored as any store is.

    python -m benchmarks.scorer.sensitivity --out DIR [--clips 96] [--corrupted N] [--seed 0]
    python -m benchmarks.scorer.sensitivity --out DIR --faces FOLDER
    python -m benchmarks.scorer.sensitivity --out DIR --voices CSV [--clips 96]
    python -m benchmarks.scorer.sensitivity --out DIR --data STORE

    DIR/originals   the clips: puppets, talking faces or acted voices (`benchmarks.scorer.corpora`)
    DIR/corrupted   each training clip, and a variant for each corruption and severity
                    (`benchmarks.scorer.corruptions`)
    DIR/scored      the same store scored by `score.run` with default settings

`benchmark.json`, `benchmark.md` and `benchmark.svg` have the qualities by corruption and severity. They
say nothing about the faults of a generator, which come together and in unknown amounts.
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

from benchmarks.commands import require_at_least, write_report
from benchmarks.scorer.corpora import Corpus, faces, puppets, voices
from benchmarks.scorer.corruptions import CORRUPTIONS, Corruption
from benchmarks.scorer.dataset import write_corrupted
from benchmarks.scorer.report import markdown, plot_benchmark, summarise, verdict
from pipelines.errors import UsageError, call
from pipelines.settings import parse_stage
from pipelines.store import StoreReader

CLIPS = 96
"""Puppets or voices, unless the command line says how many."""


def run(
    corpus: Corpus,
    out: Path,
    *,
    seed: int,
    corrupted: int | None = None,
    corruptions: Mapping[str, Corruption] = CORRUPTIONS,
    command: str = "",
) -> dict[str, Any]:
    """Corrupt the training clips of a corpus, score them, and write and print the report.

    Args:
        corpus: The corpus.
        out: The folder of `corrupted`, `scored` and the report's three files.
        seed: Seed of all random draws.
        corrupted: How many clips to corrupt; the others still calibrate the scorer. None for all.
        corruptions: How to corrupt.
        command: For the records.

    Returns:
        The content of `benchmark.json`.
    """
    from score.run import reweigh
    from score.run import run as score
    from score.settings import ScoreConfig

    store = out / "corrupted"
    made = write_corrupted(corpus, store, corruptions, corrupted=corrupted, seed=seed, command=command)
    argv = ["--data", str(store), "--out", str(out / "scored"), "--seed", str(seed)]
    invocation = parse_stage(ScoreConfig, "score", argv, prog="python -m score")
    # Processor time, so that other programs on the machine do not change the figures.
    started = time.process_time()
    score(invocation)
    scored_s = time.process_time() - started
    reweigh(invocation)
    reweighed_s = time.process_time() - started - scored_s
    summary = summarise(out / "scored", corruptions)
    clips = StoreReader(store).table
    calibration = json.loads((out / "scored" / "calibration.json").read_text(encoding="utf-8"))
    kept = sum(severity["rows"] for figures in summary.values() for severity in figures["severities"])
    report = {
        "command": command,
        "clips": clips.num_rows - made,
        "mean_duration_s": float(np.mean(clips["duration_s"].to_numpy())),
        "variants": made,
        "rejected": made - kept,
        "clips_per_processor_second": clips.num_rows / scored_s,
        "reweighed_rows_per_processor_second": clips.num_rows / reweighed_s,
        "predictors": calibration["predictors"],
        "left_out": calibration["left_out"],
        "corruptions": summary,
        "verdict": {name: verdict(summary, name) for name in ("track", "overall")},
    }
    write_report(out, report, markdown(report))
    plot_benchmark(out / "benchmark.svg", report)
    return report


def main(argv: list[str]) -> None:
    """Make the clips, score them, and print the tables."""
    prog = "python -m benchmarks.scorer.sensitivity"
    parser = argparse.ArgumentParser(prog=prog, description="Scores clips with known corruptions.")
    parser.add_argument("--out", type=Path, required=True, help="a new or an empty folder")
    parser.add_argument("--clips", type=int, help=f"puppets or voices (default: {CLIPS})")
    parser.add_argument("--corrupted", type=int, help="clips to corrupt (default: all of the training split)")
    parser.add_argument("--seed", type=int, default=0, help="of all random draws (default: 0)")
    corpus = parser.add_mutually_exclusive_group()
    corpus.add_argument("--faces", type=Path, metavar="FOLDER", help="label.csv, and clips in Raw/VIDEO")
    corpus.add_argument(
        "--voices", type=Path, metavar="CSV", help="a table of voices with the column emotion"
    )
    corpus.add_argument("--data", type=Path, metavar="STORE", help="a store")
    options = parser.parse_args(argv)
    given = {name: 1 for name in ("clips", "corrupted") if getattr(options, name) is not None}
    require_at_least(options, **given)
    if "clips" in given and (options.data or options.faces):
        raise UsageError("--clips: counts puppets or voices; leave it out with --data and --faces")
    if options.out.exists() and any(options.out.iterdir()):
        raise UsageError(f"--out: {options.out} is not empty, and speed is that of a whole run; name another")
    run(
        _corpus(options, options.out / "originals"),
        options.out,
        seed=options.seed,
        corrupted=options.corrupted,
        command=f"{prog} {shlex.join(argv)}",
    )


def _corpus(options: argparse.Namespace, originals: Path) -> Corpus:
    """The corpus that the options name; puppets if they name none."""
    if options.data:
        return Corpus(options.data)
    if options.faces:
        return faces(options.faces, originals)
    clips = options.clips or CLIPS
    if options.voices:
        return voices(options.voices, originals, clips=clips)
    return puppets(originals, clips=clips, seed=options.seed)


if __name__ == "__main__":
    call(main)

"""What finding damage costs: the share of each stage's time that goes into checksums.

    python -m benchmarks.verification --out DIR [--clips 72] [--runs 3]

Runs each stage `--runs` times from its inputs, on puppets at the demo's settings and, of `augment`, with the
cheapest variants. All digests of the stage's process are counted, also those that identify inputs and tasks.
The time to import the libraries is left out, which makes the shares larger. Writes `benchmark.json` and
`benchmark.md`.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import runpy
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from shutil import rmtree
from statistics import median
from typing import Any, NamedTuple

from benchmarks.commands import require_at_least, table, write_report
from benchmarks.importing import write_puppets
from benchmarks.measurement import in_new_process
from pipelines.errors import RunError, call

LIBRARIES = (
    "torch", "transformers.trainer", "diffusers", "peft", "datasets", "pyarrow.parquet", "av", "accelerate",
    "matplotlib.figure",
)  # fmt: skip

# The module of each stage and its arguments, in a folder `{out}` in which the stages before have been.
STAGES = {
    "import": (
        "pipelines", "import", "folder", "{out}/puppets/label.csv", "--out", "{out}/originals",
    ),
    "augment": (
        "augment", "--data", "{out}/originals", "--out", "{out}/augmented", "--augment.device", "cpu",
        "--augment.video.variants", "0", "--augment.audio.variants", "0", "--augment.classic.variants", "2",
    ),
    "score": ("score", "--data", "{out}/augmented", "--out", "{out}/scored"),
    "finetune": (
        "finetune", "--data", "{out}/scored", "--out", "{out}/model", "--finetune.video_fps", "4",
        "--finetune.max_frames", "8", "--finetune.save_every", "10", "--finetune.device", "cpu",
    ),
    "fusion": (
        "finetune.fusion", "--data", "{out}/scored", "--out", "{out}/fusion", "--fusion.seeds", "[1]",
        "--fusion.training.device", "cpu",
    ),
    "evaluate": (
        "finetune.evaluation", "--model", "{out}/model", "--data", "{out}/scored", "--out",
        "{out}/evaluation", "--device", "cpu",
    ),
    "report": ("pipelines", "report", "{out}/scored", "--out", "{out}/report"),
}  # fmt: skip


class Run(NamedTuple):
    """One run of a stage: its time, and of that the time in checksums."""

    seconds: float
    checking: float


def main(argv: list[str]) -> None:
    """Run the stages, and write the report."""
    options = _options(argv)
    out = options.out.resolve()
    write_puppets(out / "puppets", options.clips)
    runs: dict[str, list[Run]] = {}
    for name, (module, *arguments) in STAGES.items():
        given = [argument.format(out=out) for argument in arguments]
        made = Path(given[given.index("--out") + 1])
        for _ in range(options.runs):
            rmtree(made, ignore_errors=True)
            run = in_new_process(measured, module, given, smaller="fewer --clips")
            runs.setdefault(name, []).append(run)
    rows = []
    for name, own in runs.items():
        share = median(run.checking / run.seconds for run in own)
        rows.append([name, f"{median(run.seconds for run in own):.1f} s", f"{100 * share:.2f} %"])
    report = {name: [run._asdict() for run in own] for name, own in runs.items()}
    text = table(["stage", "time, median", "of it checksums, median"], rows) + "\n"
    write_report(out, {"clips": options.clips, "runs": report}, text)


def measured(module: str, arguments: list[str]) -> Run:
    """Be `python -m MODULE`.

    Raises:
        RunError: If it fails.
    """
    for library in LIBRARIES:
        importlib.import_module(library)
    spent = [0.0]
    sys.argv = [module, *arguments]
    began, code = time.perf_counter(), 0
    with checksums_timed(spent), redirect_stdout(sys.stderr):
        try:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        except SystemExit as end:
            code = end.code  # type: ignore[assignment]
    if code:
        raise RunError(f"{module}: the stage failed, for the reason above")
    return Run(time.perf_counter() - began, spent[0])


@contextmanager
def checksums_timed(spent: list[float]) -> Iterator[None]:
    """Add the time in checksums to `spent[0]`."""
    cache = importlib.import_module("finetune.tower_cache.cache")
    # zipfile compares the checksums in a torch archive.
    places: list[tuple[Any, str]] = [
        (hashlib, "sha256"), (hashlib, "file_digest"), (zipfile.ZipFile, "testzip"), (cache, "checksum"),
    ]  # fmt: skip
    before = [getattr(place, name) for place, name in places]
    for (place, name), function in zip(places, before, strict=True):
        setattr(place, name, _timed(function, spent))
    try:
        yield
    finally:
        for (place, name), function in zip(places, before, strict=True):
            setattr(place, name, function)


def _timed(function: Callable[..., Any], spent: list[float]) -> Callable[..., Any]:
    def timed(*arguments: Any, **named: Any) -> Any:
        began = time.perf_counter()
        try:
            return function(*arguments, **named)
        finally:
            spent[0] += time.perf_counter() - began

    return timed


def _options(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.verification",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--clips", type=int, default=72, help="puppets")
    parser.add_argument("--runs", type=int, default=3, help="of each stage")
    options = parser.parse_args(argv)
    require_at_least(options, clips=8, runs=1)
    return options


if __name__ == "__main__":
    call(main)

"""Starts the stage: `accelerate launch [-m] finetune`, `python -m finetune`, `torchrun -m finetune`."""

from __future__ import annotations

import sys
from pathlib import Path

FLAGS = {"dry-run": "report the rows and memory a run would take, and run nothing; needs no --out"}


def main(argv: list[str]) -> None:
    """Fine-tune as the command line says, or report what that would take."""
    from finetune.settings import FinetuneConfig
    from pipelines.device import leave_group
    from pipelines.settings import parse_stage

    needs = ("data",) if "--dry-run" in argv else ("data", "out")
    invocation = parse_stage(FinetuneConfig, "finetune", argv, prog="finetune", flags=FLAGS, needs=needs)
    try:
        # Imported after the parsing, so that a wrong key or --help does not wait for torch.
        if invocation.flags["dry-run"]:
            from finetune import dry_run

            dry_run.main(invocation)
        else:
            from finetune.run import run

            run(invocation)
    finally:
        leave_group()


def entry() -> None:
    """Start the stage.

    Launched as a folder, Python puts that folder first on the path, where its modules would be found as
    top-level ones; the folder above belongs there.
    """
    package = Path(__file__).resolve().parent
    if sys.path and Path(sys.path[0]).resolve() == package:
        sys.path[0] = str(package.parent)
    from pipelines.errors import call

    call(main)


if __name__ == "__main__":
    entry()

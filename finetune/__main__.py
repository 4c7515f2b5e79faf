"""Starts the stage: `accelerate launch [-m] finetune`, `python -m finetune`, `torchrun -m finetune`."""

from __future__ import annotations

import sys
from pathlib import Path


def entry() -> None:
    """Start the stage.

    Launched as a folder, Python puts that folder first on the path, where its modules would be
    found as top-level ones; the folder above belongs there.
    """
    package = Path(__file__).resolve().parent
    if sys.path and Path(sys.path[0]).resolve() == package:
        sys.path[0] = str(package.parent)
    from finetune.run import main
    from pipelines.errors import call

    call(main)


if __name__ == "__main__":
    entry()

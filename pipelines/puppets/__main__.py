"""Make a corpus of puppets: `python -m pipelines.puppets --out DIR --clips N --seed S`."""

from __future__ import annotations

import argparse
from pathlib import Path

from pipelines.errors import call


def main(argv: list[str]) -> None:
    """Write the corpus."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.puppets", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder to write label.csv and clips/ to")
    parser.add_argument("--clips", type=int, default=96, help="over all splits, at least 8 (default: 96)")
    parser.add_argument("--seed", type=int, default=0, help="of everything that is drawn (default: 0)")
    parser.add_argument("--train-speakers", type=int, help="keep the training clips of so many speakers only")
    parser.add_argument("--workers", type=int, default=2, help="processes that draw (default: 2)")
    options = vars(parser.parse_args(argv))
    from pipelines.puppets.corpus import write_corpus

    print(f"{options['out']}: {write_corpus(**options)} clips")


if __name__ == "__main__":
    call(main)

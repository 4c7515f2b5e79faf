"""A feature pickle in MMSA's layout as a feature file: `daq-msa convert PICKLE --out FILE.safetensors`.

Arrays keep their types and values, also those that are not finite. Read are features, lengths or
masks, labels, unimodal labels and ids; the words themselves and their token ids stay behind. The pickle is
read without running anything of it, so one from a stranger can be converted too.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from finetune.fusion.features.arrays import Split, checked, count_not_finite, read_pickle
from finetune.fusion.features.file import checked_out, named, write
from pipelines.errors import call
from pipelines.row import SCALES


def main(argv: list[str]) -> None:
    """Convert a pickle."""
    options = _options(argv)
    print(convert(options.pickle, options.out, options.scale))


def convert(source: Path, out: Path, scale: str | None = None) -> str:
    """Write a pickle's arrays as a feature file.

    Args:
        source: The pickle.
        out: The file; what is there is replaced.
        scale: The labels' scale; None takes `sims` where there are unimodal labels, else `mosi`.

    Returns:
        What was found, in a line for each modality.

    Raises:
        UsageError: If `out` cannot be a feature file.
        pipelines.pickles.PickleError: If the pickle is not let in.
        FeatureError: If its layout is another one, or a label is missing or out of the scale.
    """
    checked_out(out)
    splits, own_scale = read_pickle(source, None)
    checked(str(source), splits, scale or own_scale)
    about = {"made_by": "daq-msa convert", "source": named(source)}
    write(out, splits, scale=scale or own_scale, about=about)
    return _summary(out, splits, scale or own_scale)


def _summary(out: Path, splits: dict[str, Split], scale: str) -> str:
    counts = ", ".join(f"{len(split)} {name}" for name, split in splits.items())
    lines = [f"{out}: {counts} clips on the scale {scale}"]
    for name, kinds in count_not_finite(splits).items():
        values = splits["train"].features[name].values
        odd = ", ".join(f"{count} {kind}" for kind, count in kinds.items() if count) or "all finite"
        lines.append(f"{name}: {values.shape[1]} steps of {values.shape[2]} {values.dtype}, {odd}")
    return "\n".join(lines)


def _options(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="daq-msa convert", description=__doc__, allow_abbrev=False)
    parser.add_argument("pickle", type=Path, metavar="PICKLE", help="MMSA's feature pickle")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.safetensors")
    parser.add_argument(
        "--scale", choices=SCALES, help="of the labels (default: sims with unimodal, else mosi)"
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    call(main)

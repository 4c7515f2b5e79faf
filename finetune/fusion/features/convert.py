"""Convert a feature pickle in MMSA's layout: `daq-msa convert PICKLE --out FILE.safetensors`.

Arrays keep their types and values, also those that are not finite. Features, lengths or masks, labels,
unimodal labels and ids are converted; transcripts and token ids are not. No code in the pickle is executed,
so an untrusted one can be converted too.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from finetune.fusion.features.arrays import Split, checked, count_not_finite
from finetune.fusion.features.file import checked_out, named, write
from finetune.fusion.features.mmsa_pickle import arrays_of
from pipelines.errors import call
from pipelines.row import SCALES


def main(argv: list[str]) -> None:
    """Convert a pickle."""
    parser = argparse.ArgumentParser(prog="daq-msa convert", description=__doc__, allow_abbrev=False)
    parser.add_argument("pickle", type=Path, metavar="PICKLE", help="MMSA's feature pickle")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.safetensors")
    text = "of the labels (default: sims with unimodal, else mosi)"
    parser.add_argument("--scale", choices=SCALES, help=text)
    parser.add_argument("--overwrite", action="store_true", help="replace a file of that name")
    options = parser.parse_args(argv)
    print(convert(options.pickle, options.out, options.scale, overwrite=options.overwrite))


def convert(source: Path, out: Path, scale: str | None = None, *, overwrite: bool = False) -> str:
    """Write a pickle's arrays as a feature file.

    Args:
        source: The pickle.
        out: The file.
        scale: The labels' scale; None takes `sims` if there are unimodal labels, else `mosi`.
        overwrite: Whether a file of that name is replaced.

    Returns:
        A summary, with a line for each modality.

    Raises:
        UsageError: If `out` cannot be a feature file.
        pipelines.untrusted.pickles.PickleError: If the pickle is refused.
        FeatureError: If it has another layout, or a label is missing or not on the scale.
    """
    checked_out(out, {"PICKLE": source}, overwrite=overwrite)
    splits, own_scale = arrays_of(source, None)
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


if __name__ == "__main__":
    call(main)

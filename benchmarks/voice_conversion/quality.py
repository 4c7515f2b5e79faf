"""Measures a voice converter on voices that no included checkpoint was trained on.

    python -m benchmarks.voice_conversion.quality --pairs 100 --sheet sheet.png

Each pair is a sentence by one voice, to be converted to another, of which another sentence is the
reference: puppets of the test speakers, for which the true result is known, or, with `--speech`,
recordings in a folder. Speaker similarity needs Resemblyzer and word errors Moonshine;
`docs/voice_conversion.md` tells how to install them, and without one its metrics are left out.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from augment.audio.flow_matching_converter import load_converter
from augment.training.voice import spectrogram_sheet
from benchmarks.voice_conversion.metrics import Models, figures, moonshine, resemblyzer
from benchmarks.voice_conversion.pairs import Converted, Voices, convert, of_folder, of_puppets
from pipelines.errors import call
from pipelines.row import row_seed

DRAWN = 6
"""Pairs on the sheet."""


def draw_sheet(pairs: Sequence[Converted], file: Path) -> None:
    """Draw spectrograms, one line per pair: source, reference, result and truth side by side."""
    names = ("source", "reference", "result", "truth")
    spectrogram_sheet.draw([{name: getattr(pair, name) for name in names} for pair in pairs], file)


def main(argv: list[str]) -> None:
    """Print the metrics as JSON."""
    prog = "python -m benchmarks.voice_conversion.quality"
    parser = argparse.ArgumentParser(prog=prog, description=__doc__, allow_abbrev=False)
    parser.add_argument("--model", default="embedded", help="embedded, a directory or a Hub id")
    parser.add_argument("--pairs", type=int, default=100, help="(default: 100)")
    text = "puppet voices: any two, or two of unlike pitch (default: any)"
    parser.add_argument("--voices", choices=get_args(Voices), default="any", help=text)
    parser.add_argument("--speech", type=Path, help="a folder of recordings, a subfolder a speaker")
    parser.add_argument("--language", default="en", help="word errors need en (default: en)")
    parser.add_argument("--steps", type=int, default=10, help="Euler steps (default: 10)")
    parser.add_argument("--guidance_scale", type=float, default=0.7, help="(default: 0.7)")
    parser.add_argument("--temperature", type=float, default=0.0, help="(default: 0)")
    parser.add_argument("--seed", type=int, default=1, help="(default: 1)")
    parser.add_argument("--sheet", type=Path, help=f"image of the first {DRAWN} pairs' spectrograms")
    options = parser.parse_args(argv)
    if options.speech is None:
        pairs = of_puppets(options.pairs, options.seed, options.voices)
    else:
        pairs = of_folder(options.speech, options.pairs, options.seed)
    converter = load_converter(options.model, None, "cpu")
    converted = [
        convert(
            converter,
            pair,
            seed=row_seed(options.seed, f"noise {number}"),
            num_inference_steps=options.steps,
            guidance_scale=options.guidance_scale,
            temperature=options.temperature,
        )
        for number, pair in enumerate(pairs)
    ]
    if options.sheet is not None:
        draw_sheet(converted[:DRAWN], options.sheet)
    models = Models(speaker=resemblyzer(), words=moonshine() if options.language == "en" else None)
    print(json.dumps(figures(converted, models)))


if __name__ == "__main__":
    call(main)

"""The log of a voice converter's training: figures, a plot of them, and converted samples.

OUT/log.jsonl                    step, loss, held_out_loss, rate, seconds; one line per saved state
OUT/losses.svg                   plot of the losses
OUT/samples/source.flac          a held-out recording
OUT/samples/reference.flac       the target voice
OUT/samples/step-00002000.flac   the source converted to the target voice
OUT/samples/step-00002000.png    spectrograms of the three
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from augment.training.voice import spectrogram_sheet
from augment.voice_conversion.mel import SAMPLING_RATE
from pipelines import figures, media
from pipelines.atomic import read_json_lines, replacing, write_json_lines

LONGEST_S = 6.0  # of a sample and of its reference
DIGITS = {"loss": 6, "held_out_loss": 6, "rate": 4, "seconds": 1}


class TrainingLog:
    """Writes the log of a training, continuing that of an interrupted one.

    Args:
        out: The training's folder.
        step: The step that training resumes from; later lines of the log are dropped.
    """

    def __init__(self, out: Path, step: int) -> None:
        self._out = out
        self._lines = [line for line in read_json_lines(out / "log.jsonl") if line["step"] <= step]

    @property
    def seconds(self) -> float:
        """Duration of the training so far."""
        return self._lines[-1]["seconds"] if self._lines else 0.0

    def add(self, *, step: int, **figure: float) -> None:
        """Add a line: `loss` is the mean since the last line, `rate` a share of the highest rate."""
        line = {"step": step} | {name: round(figure[name], digits) for name, digits in DIGITS.items()}
        self._lines.append(line)
        write_json_lines(self._out / "log.jsonl", self._lines)
        steps = [line["step"] for line in self._lines]
        with figures.drawn(self._out / "losses.svg", 1, width=5, height=3.2) as (axes,):
            for name, colour in (("loss", figures.BLUE), ("held_out_loss", figures.RED)):
                values = [line[name] for line in self._lines]
                axes.plot(steps, values, color=colour, marker=".", label=name.replace("_", " "))
            axes.set_xlabel("step")
            axes.legend(frameon=False)
        print(json.dumps(line), flush=True)

    def sample(self, pipeline: Any, source: np.ndarray, reference: np.ndarray, step: int) -> None:
        """Convert a recording to another voice; write both, the result, and their spectrograms."""
        longest = round(LONGEST_S * SAMPLING_RATE)
        source, reference = source[:longest], reference[:longest]
        generator = torch.Generator().manual_seed(0)
        made = pipeline(source, reference, sampling_rate=SAMPLING_RATE, generator=generator)
        name = f"step-{step:08d}"
        sounds = {"source": source, "reference": reference, name: made}
        for stem, samples in sounds.items():
            with replacing(self._out / "samples" / f"{stem}.flac") as temporary:
                temporary.write_bytes(media.encode_audio(samples, SAMPLING_RATE))
        spectrogram_sheet.draw([sounds], self._out / "samples" / f"{name}.png")

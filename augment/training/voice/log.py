"""What a voice converter's training tells of itself: figures, a picture of them, and samples to hear.

OUT/log.jsonl                    step, loss, held_out_loss, rate, seconds; a line a saved state
OUT/losses.svg                   the losses of it
OUT/samples/source.flac          a sound that is not trained on
OUT/samples/reference.flac       the voice that is to say it
OUT/samples/step-00002000.flac   what the converter makes of them
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

LONGEST_S = 6.0
"""Of a sample and of its reference."""


class TrainingLog:
    """Writes the figures of a training, goes on with those of one that was stopped.

    Args:
        out: The training's folder.
        step: Up to which the log is taken over: what a stopped training had told beyond is told again.
    """

    def __init__(self, out: Path, step: int) -> None:
        self._out = out
        self._lines = [line for line in read_json_lines(out / "log.jsonl") if line["step"] <= step]

    @property
    def seconds(self) -> float:
        """That the training took so far."""
        return self._lines[-1]["seconds"] if self._lines else 0.0

    def add(self, *, step: int, loss: float, held_out_loss: float, rate: float, seconds: float) -> None:
        """Tell of a step: mean loss since the last line, the rate's share of the highest, seconds in all."""
        line = {
            "step": step,
            "loss": round(loss, 6),
            "held_out_loss": round(held_out_loss, 6),
            "rate": round(rate, 4),
            "seconds": round(seconds, 1),
        }
        self._lines.append(line)
        write_json_lines(self._out / "log.jsonl", self._lines)
        self._draw()
        print(json.dumps(line), flush=True)

    def _draw(self) -> None:
        steps = [line["step"] for line in self._lines]
        with figures.drawn(self._out / "losses.svg", 1, width=5, height=3.2) as (axes,):
            for name, colour in (("loss", figures.BLUE), ("held_out_loss", figures.RED)):
                values = [line[name] for line in self._lines]
                axes.plot(steps, values, color=colour, marker=".", label=name.replace("_", " "))
            axes.set_xlabel("step")
            axes.legend(frameon=False)

    def sample(self, pipeline: Any, source: np.ndarray, reference: np.ndarray, step: int) -> None:
        """Convert a sound by another's voice, and write both, the result, and a picture of the three."""
        longest = round(LONGEST_S * SAMPLING_RATE)
        source, reference = source[:longest], reference[:longest]
        generator = torch.Generator().manual_seed(0)
        made = pipeline(source, reference, sampling_rate=SAMPLING_RATE, generator=generator)
        name = f"step-{step:08d}"
        heard = {"source": source, "reference": reference, name: made}
        for stem, sound in heard.items():
            with replacing(self._out / "samples" / f"{stem}.flac") as temporary:
                temporary.write_bytes(media.encode_audio(sound, SAMPLING_RATE))
        spectrogram_sheet.draw([heard], self._out / "samples" / f"{name}.png")

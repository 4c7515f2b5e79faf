"""Images of spectrograms side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from augment.voice_conversion.conditioning import LOUDNESS
from augment.voice_conversion.mel import log_mel
from pipelines.atomic import replacing


def mel(waveform: np.ndarray) -> torch.Tensor:
    """Log mel spectrogram (frames, 80) of a waveform at 16 kHz, scaled to a common loudness."""
    level = float(np.sqrt(np.square(waveform).mean()))
    return log_mel(torch.from_numpy(waveform) * (LOUDNESS / level))


def draw(lines: Sequence[dict[str, np.ndarray | None]], file: Path) -> None:
    """Write a PNG of the log mel spectrograms of waveforms at 16 kHz, each under its name.

    Args:
        lines: At least one row of waveforms by name, all with the same names. None leaves a cell empty.
        file: The PNG.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5 * len(lines[0]), 3 * len(lines)), layout="constrained")
    axes = figure.subplots(len(lines), len(lines[0]), squeeze=False)
    for across, line in zip(axes, lines, strict=True):
        for axis, (name, waveform) in zip(across, line.items(), strict=True):
            if waveform is None:
                axis.set_axis_off()
                continue
            axis.imshow(mel(waveform).T.numpy(), origin="lower", aspect="auto", vmin=-4.5, vmax=0.5)
            axis.set_title(name)
    with replacing(file) as temporary:
        figure.savefig(temporary, dpi=60, format="png")

"""Pictures of spectrograms side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from pipelines.atomic import replacing


def draw(lines: Sequence[dict[str, torch.Tensor | None]], file: Path) -> None:
    """Write a PNG of log mel spectrograms (frames, 80), each under its name; of None, an empty place.

    Args:
        lines: At least one; all have the same names.
        file: The PNG.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5 * len(lines[0]), 3 * len(lines)), layout="constrained")
    axes = figure.subplots(len(lines), len(lines[0]), squeeze=False)
    for across, line in zip(axes, lines, strict=True):
        for axis, (name, spectrogram) in zip(across, line.items(), strict=True):
            if spectrogram is None:
                axis.set_axis_off()
                continue
            axis.imshow(spectrogram.T.numpy(), origin="lower", aspect="auto", vmin=-4.5, vmax=0.5)
            axis.set_title(name)
    with replacing(file) as temporary:
        figure.savefig(temporary, dpi=60, format="png")

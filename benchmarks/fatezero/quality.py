"""Metrics of the embedded diffusion model on unseen puppets, those of the speaker pool `test`.

    python -m benchmarks.fatezero.quality --clips 30

Prints the tables of the model's card: signal-to-noise ratio of the autoencoder by skin tone; and for each
style the change of the colours, whether the mouth opens and closes as in the source, and the difference
of the face's valence, estimated by a probe, from the source's.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from augment.training.diffusion.model import draw
from augment.training.diffusion.style_renderers import RENDERERS
from augment.video.editor import as_bytes
from augment.video.fatezero_editor import FateZeroEditor
from augment.video.settings import VideoSettings
from augment.video.styles import EMBEDDED
from augment.video.variants import make_editor
from benchmarks.commands import table
from benchmarks.valence_probe import FaceProbe
from pipelines.puppets import face

TONES = {"light": (0, 1 / 3), "medium": (1 / 3, 2 / 3), "dark": (2 / 3, 1)}
FRAMES = 13
MOUTH = (slice(39, 58), slice(18, 46))


class Clip(NamedTuple):
    """A clip of an unseen puppet."""

    frames: np.ndarray
    mouth: np.ndarray
    valence: float
    tone: float


def clips(count: int, seed: int = 7) -> list[Clip]:
    """Clips of the speaker pool `test`, with evenly distributed skin tones."""
    rng = np.random.default_rng(seed)
    drawn = []
    for number in range(count):
        look = face.random_look(rng, "test")
        while not number % 3 / 3 <= look.tone < (number % 3 + 1) / 3:
            look = face.random_look(rng, "test")
        valence = float(rng.uniform(-1, 1))
        mouth = np.clip(
            0.5 + 0.5 * np.sin(np.arange(FRAMES) * rng.uniform(0.6, 1.2) + rng.uniform(0, 6)), 0, 1
        )
        frames = face.draw_clip(look, valence=valence, mouth=mouth, rng=rng)
        drawn.append(Clip(frames, mouth, valence, look.tone))
    return drawn


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    """Peak signal-to-noise ratio of uint8 images, dB."""
    error = ((one.astype(np.float64) - other) ** 2).mean()
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def order_kept(frames: np.ndarray, mouth: np.ndarray) -> float:
    """Share of pairs of frames whose mouth openings are in the same order as in the source.

    A frame's opening is the distance of its mouth region from that of the most closed frame. Pairs whose
    openings in the source differ by less than 0.1 are left out.
    """
    regions = frames[:, *MOUTH].astype(np.float64)
    opening = np.abs(regions - regions[mouth.argmin()]).mean(axis=(1, 2, 3))
    first, second = np.triu_indices(len(mouth), 1)
    expected, difference = mouth[first] - mouth[second], opening[first] - opening[second]
    clear = np.abs(expected) >= 0.1
    return float((np.sign(expected) == np.sign(difference))[clear].mean())


@torch.no_grad()
def rebuild(editor: FateZeroEditor, frames: np.ndarray) -> np.ndarray:
    """Frames encoded and decoded by the autoencoder, uint8."""
    latents = editor.pipeline._encode(frames, None)
    return as_bytes(editor.pipeline._decode(latents).numpy())


def autoencoder_table(editor: FateZeroEditor, shown: list[Clip]) -> str:
    """PSNR of frames and mouths by skin tone, and by style."""
    rows = []
    for name, (low, high) in TONES.items():
        pairs = [(clip.frames, rebuild(editor, clip.frames)) for clip in shown if low <= clip.tone < high]
        rows.append([name, *_psnrs(pairs)])
    rng = np.random.default_rng(11)
    for style in RENDERERS:
        images = np.stack([draw(rng, "test", style)[0] for _ in range(24)])
        pixels = np.round(images * 255).astype(np.uint8)
        rows.append([f"({style})", *_psnrs([(pixels, rebuild(editor, pixels))])])
    return table(("skin", "frames, dB", "mouths, dB"), rows)


def _psnrs(pairs: list[tuple[np.ndarray, np.ndarray]]) -> list[str]:
    """Mean PSNR of frames, and of mouths."""
    mouths = [(one[:, *MOUTH], other[:, *MOUTH]) for one, other in pairs]
    return [f"{np.mean([psnr(*pair) for pair in each]):.1f}" for each in (pairs, mouths)]


def edit_table(editor: FateZeroEditor, shown: list[Clip]) -> str:
    """Metrics of edits into each style."""
    probe, rng = FaceProbe([*RENDERERS.values()]), np.random.default_rng(12)
    prompt = editor.settings.source_prompt
    truth = np.array([clip.valence for clip in shown])
    before = np.array([probe(clip.frames) for clip in shown])

    def cells(name: str, edits: list[np.ndarray], left: str) -> list[str]:
        moved = np.mean([_colour_distance(one, clip.frames) for one, clip in zip(edits, shown, strict=True)])
        kept = np.mean([order_kept(one, clip.mouth) for one, clip in zip(edits, shown, strict=True)])
        valences = np.array([probe(one) for one in edits])
        correlation, error = np.corrcoef(valences, truth)[0, 1], np.abs(valences - before).mean()
        return [name, f"{moved:.3f}", left, f"{kept:.2f}", f"{correlation:.2f}", f"{error:.2f}"]

    rows = [
        cells("source", [clip.frames for clip in shown], "–"),
        cells("autoencoder alone", [rebuild(editor, clip.frames) for clip in shown], "–"),
    ]
    for name, style in EMBEDDED.items():
        edits = [editor.edit_with(clip.frames, prompt, style, style.guidance_scale) for clip in shown]
        rendered = [RENDERERS[name](clip.frames.astype(np.float32) / 255, rng) * 255 for clip in shown]
        left = np.mean([_colour_distance(one, other) for one, other in zip(edits, rendered, strict=True)])
        rows.append(cells(name, edits, f"{left:.3f}"))
    head = ("style", "moved from source", "left to style", "mouth order kept", "valence: correlation")
    return table((*head, "expression error"), rows)


def _colour_distance(one: np.ndarray, other: np.ndarray) -> float:
    """Mean distance of colours after averaging 8 x 8 pixels, on a scale of 1."""
    small = (frames.reshape(len(frames), 8, 8, 8, 8, 3).mean(axis=(2, 4)) / 255 for frames in (one, other))
    return float(np.linalg.norm(next(small) - next(small), axis=-1).mean())


def main(argv: list[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fatezero.quality", description=__doc__)
    parser.add_argument("--model", type=Path, help="a checkpoint (default: the embedded one)")
    parser.add_argument("--clips", type=int, default=30)
    options = parser.parse_args(argv)
    model = str(options.model) if options.model else "embedded"
    editor = make_editor(VideoSettings(model=model), "cpu")
    assert isinstance(editor, FateZeroEditor)
    shown = clips(options.clips)
    print(f"{autoencoder_table(editor, shown)}\n\n{edit_table(editor, shown)}")


if __name__ == "__main__":
    main()

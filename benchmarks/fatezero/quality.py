"""Figures of the embedded diffusion model on people whom it never saw: the cast `test`.

    python -m benchmarks.fatezero.quality --clips 30 --sheet sheet.png

Prints the tables of the model's card. Signal-to-noise of the autoencoder by skin tone; then of each
style: how far the colours move, whether the mouth opens and closes when the source's does, and
how far a linear probe reads another valence in the face than in the source's.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from augment.training.diffusion.model import draw
from augment.training.diffusion.style_renderers import RENDERERS
from augment.video.editor import as_bytes
from augment.video.fatezero_editor import FateZeroEditor
from augment.video.settings import VideoSettings
from augment.video.styles import EMBEDDED, Style
from augment.video.variants import make_editor
from benchmarks.valence_probe import FaceProbe
from pipelines.puppets import face

TONES = {"light": (0, 1 / 3), "medium": (1 / 3, 2 / 3), "dark": (2 / 3, 1)}
FRAMES = 13
MOUTH = (slice(39, 58), slice(18, 46))


class Clip(NamedTuple):
    """A drawn clip of somebody unseen."""

    frames: np.ndarray
    mouth: np.ndarray
    valence: float
    tone: float


def clips(count: int, seed: int = 7) -> list[Clip]:
    """Clips of the cast `test`, skin tones spread evenly."""
    rng = np.random.default_rng(seed)
    made = []
    for number in range(count):
        look = face.random_look(rng, "test")
        while not number % 3 / 3 <= look.tone < (number % 3 + 1) / 3:
            look = face.random_look(rng, "test")
        valence = float(rng.uniform(-1, 1))
        mouth = np.clip(
            0.5 + 0.5 * np.sin(np.arange(FRAMES) * rng.uniform(0.6, 1.2) + rng.uniform(0, 6)), 0, 1
        )
        frames = face.draw_clip(look, valence=valence, mouth=mouth, rng=rng)
        made.append(Clip(frames, mouth, valence, look.tone))
    return made


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    """Peak signal-to-noise ratio of uint8 pictures, dB."""
    error = ((one.astype(np.float64) - other) ** 2).mean()
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def order_kept(frames: np.ndarray, mouth: np.ndarray) -> float:
    """Share of pairs of frames in whose mouth regions the opening still has the source's order.

    A frame's opening is how far its mouth region is from that of the most closed frame. Pairs whose
    openings differ by less than 0.1 are left out.
    """
    regions = frames[:, *MOUTH].astype(np.float64)
    opening = np.abs(regions - regions[mouth.argmin()]).mean(axis=(1, 2, 3))
    first, second = np.triu_indices(len(mouth), 1)
    wanted, found = mouth[first] - mouth[second], opening[first] - opening[second]
    clear = np.abs(wanted) >= 0.1
    return float((np.sign(wanted) == np.sign(found))[clear].mean())


@torch.no_grad()
def rebuild(editor: FateZeroEditor, frames: np.ndarray) -> np.ndarray:
    """Frames after the autoencoder alone, uint8."""
    latents = editor.pipeline._encode(frames, None)
    return as_bytes(editor.pipeline._decode(latents).numpy())


def edited(editor: FateZeroEditor, clip: Clip, style: Style) -> np.ndarray:
    """A clip's frames in a style."""
    return editor.edit_with(clip.frames, editor.settings.source_prompt, style, style.guidance_scale)


def autoencoder_table(editor: FateZeroEditor, shown: list[Clip]) -> list[str]:
    """PSNR by skin tone, of whole frames and of mouths."""
    lines = ["| skin | frames, dB | mouths, dB |", "|---|---|---|"]
    for name, (low, high) in TONES.items():
        pairs = [(clip.frames, rebuild(editor, clip.frames)) for clip in shown if low <= clip.tone < high]
        whole = np.mean([psnr(*pair) for pair in pairs])
        mouths = np.mean([psnr(one[:, *MOUTH], other[:, *MOUTH]) for one, other in pairs])
        lines.append(f"| {name} | {whole:.1f} | {mouths:.1f} |")
    rng = np.random.default_rng(11)
    for style in RENDERERS:
        pictures = np.stack([draw(rng, "test", style)[0] for _ in range(24)])
        pixels = np.round(pictures * 255).astype(np.uint8)
        rebuilt = rebuild(editor, pixels)
        lines.append(
            f"| ({style}) | {psnr(pixels, rebuilt):.1f} | {psnr(pixels[:, *MOUTH], rebuilt[:, *MOUTH]):.1f} |"
        )
    return lines


def edit_table(editor: FateZeroEditor, shown: list[Clip]) -> list[str]:
    """What each style does to clips."""
    probe, rng = FaceProbe([*RENDERERS.values()]), np.random.default_rng(12)
    lines = [
        "| style | moved from source | left to style | mouth order kept | valence: correlation"
        " | expression error |",
        "|---|---|---|---|---|---|",
    ]
    truth = np.array([clip.valence for clip in shown])
    before = np.array([probe(clip.frames) for clip in shown])

    def line(name: str, made: list[np.ndarray], left: str) -> str:
        moved = np.mean([_colour_distance(one, clip.frames) for one, clip in zip(made, shown, strict=True)])
        kept = np.mean([order_kept(one, clip.mouth) for one, clip in zip(made, shown, strict=True)])
        read = np.array([probe(one) for one in made])
        agreement, error = np.corrcoef(read, truth)[0, 1], np.abs(read - before).mean()
        return f"| {name} | {moved:.3f} | {left} | {kept:.2f} | {agreement:.2f} | {error:.2f} |"

    lines.append(line("source", [clip.frames for clip in shown], "–"))
    lines.append(line("autoencoder alone", [rebuild(editor, clip.frames) for clip in shown], "–"))
    for name, style in EMBEDDED.items():
        made = [edited(editor, clip, style) for clip in shown]
        meant = [RENDERERS[name](clip.frames.astype(np.float32) / 255, rng) * 255 for clip in shown]
        left = np.mean([_colour_distance(one, other) for one, other in zip(made, meant, strict=True)])
        lines.append(line(name, made, f"{left:.3f}"))
    return lines


def _colour_distance(one: np.ndarray, other: np.ndarray) -> float:
    """Mean distance of colours after 8 x 8 pixels are averaged, full scale 1."""
    small = (frames.reshape(len(frames), 8, 8, 8, 8, 3).mean(axis=(2, 4)) / 255 for frames in (one, other))
    return float(np.linalg.norm(next(small) - next(small), axis=-1).mean())


def sheet(editor: FateZeroEditor, shown: list[Clip]) -> Image.Image:
    """Per clip a row of four source frames, and rows of the same frames in each style."""
    rows = []
    for clip in shown:
        made = [
            clip.frames,
            *(edited(editor, clip, style) for style in EMBEDDED.values()),
        ]
        rows.append(np.hstack([np.hstack([*frames[[0, 4, 8]]]) for frames in made]))
    picture = Image.fromarray(np.vstack(rows))
    return picture.resize((picture.width * 2, picture.height * 2), Image.Resampling.NEAREST)


def main(argv: list[str] | None = None) -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fatezero.quality", description=__doc__)
    parser.add_argument("--model", type=Path, help="a checkpoint (default: the embedded one)")
    parser.add_argument("--clips", type=int, default=30)
    parser.add_argument("--sheet", type=Path, help="write a sheet of pictures here")
    options = parser.parse_args(argv)
    model = str(options.model) if options.model else "embedded"
    editor = make_editor(VideoSettings(model=model), "cpu")
    assert isinstance(editor, FateZeroEditor)
    shown = clips(options.clips)
    if options.sheet:
        sheet(editor, shown[:6]).save(options.sheet)
    print("\n".join([*autoencoder_table(editor, shown), "", *edit_table(editor, shown)]))


if __name__ == "__main__":
    main()

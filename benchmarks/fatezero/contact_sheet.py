"""Makes a contact sheet: frames of a clip, of variants by FateZero, and of one by SDEdit.

    python -m benchmarks.fatezero.contact_sheet --clip CLIP.mp4 --out SHEET.png [--augment.video.KEY V ...]

Rows are the source, three styles, and `sdedit` in the first of them; columns are frames at even distances.
Without `--clip`, the clip is a puppet on which the included model was not trained. Further options are
settings as in `python -m augment`, for all rows.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from augment.settings import AugmentConfig
from augment.video.settings import VideoSettings
from augment.video.styles import styles_for
from augment.video.variants import VideoVariants
from pipelines import media
from pipelines.device import pick
from pipelines.errors import call
from pipelines.puppets import face
from pipelines.settings import parse_stage

COLUMNS, HEIGHT = 8, 128  # height of a frame in pixels
STYLES = 3


def main(argv: list[str]) -> None:
    """Write the sheet."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fatezero.contact_sheet",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--clip", type=Path, help="a clip (default: a puppet)")
    parser.add_argument("--out", type=Path, required=True, metavar="SHEET.png")
    options, settings = parser.parse_known_args(argv)
    config = parse_stage(AugmentConfig, "augment", settings, prog=parser.prog, needs=()).config
    clip = options.clip.read_bytes() if options.clip else puppet(seed=7)
    sheet(clip, config.video, pick(config.device)).save(options.out)


def puppet(seed: int) -> bytes:
    """A talking head of the speaker pool `test`, 25 frames."""
    rng = np.random.default_rng(seed)
    mouth = 0.5 + 0.5 * np.sin(np.arange(25) * 0.8)
    frames = face.draw_clip(face.random_look(rng, "test"), valence=0.8, mouth=mouth, rng=rng)
    return media.encode_video(frames, 12.5)


def sheet(clip: bytes, settings: VideoSettings, device: str) -> Image.Image:
    """Rows of frames: the source, FateZero in three styles, and SDEdit in the first of them.

    Args:
        clip: The source, as an encoded file.
        settings: For all rows, except method and styles.
        device: Where the models run.
    """
    row = {"id": "clip", "video": {"bytes": clip}}
    names = [*(settings.styles or styles_for(settings.model))][:STYLES]
    edits = [replace(settings, method="fatezero", styles=(name,)) for name in names]
    edits.append(replace(settings, method="sdedit", styles=(names[0],)))
    made = [VideoVariants(edit, device)(row, 1)[0] for edit in edits]
    return Image.fromarray(np.vstack([_strip(media.read_video(each).frames) for each in (clip, *made)]))


def _strip(frames: np.ndarray) -> np.ndarray:
    """`COLUMNS` frames side by side, (HEIGHT, width, 3)."""
    width = round(frames.shape[2] * HEIGHT / frames.shape[1])
    shown = frames[np.linspace(0, len(frames) - 1, COLUMNS).round().astype(int)]
    resized = [Image.fromarray(frame).resize((width, HEIGHT), Image.Resampling.LANCZOS) for frame in shown]
    return np.hstack([np.asarray(image) for image in resized])


if __name__ == "__main__":
    call(main)

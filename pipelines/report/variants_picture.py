"""Draw an original beside its variants as one image, with their weights, for docs and papers.

    python -m pipelines.report.variants_picture STORE --out docs/variants.png [--source ID]

The original and each variant have a row: frames along time, the spectrogram of the audio, and the weight. By
default the family whose weights differ most is drawn.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pipelines.errors import RunError, call
from pipelines.media import read_audio, read_video
from pipelines.report.clips import select
from pipelines.report.pictures import spectrogram, strip
from pipelines.row import MEDIA, Row
from pipelines.store import StoreReader

# All in px. The image is meant to be shown at half its size.
MARGIN = 44
GAP = 20
LABEL_WIDTH = 270
ROW_HEIGHT = 148
AUDIO_WIDTH = 420
WEIGHT_WIDTH = 250
FRAMES = 6

PAPER, INK, SOFT, TRACK = "#ffffff", "#1b1d22", "#5f6570", "#e8e9e6"
COLOURS = {
    "original": "#5b6472",
    "video": "#2f6fb3",
    "audio": "#c26a12",
    "both": "#7a55b8",
    "classic": "#3f8a63",
}


def draw_family(rows: Sequence[Row]) -> Image.Image:
    """An original and its variants, one below the other.

    Args:
        rows: Rows with their media, the original first; of a variant without video or audio, the
            original's is drawn.

    Raises:
        MediaError: If a clip cannot be decoded.
    """
    lines = [_line(row, rows[0]) for row in rows]
    width = max(line.width for line in lines)
    top = MARGIN + round(1.3 * 34) + GAP  # below a line of text
    height = top + len(lines) * (ROW_HEIGHT + GAP) - GAP + MARGIN
    image = Image.new("RGB", (width + 2 * MARGIN, height), PAPER)
    text = ImageDraw.Draw(image)
    heading = _cut(f"“{rows[0]['text']}”", width, 34)
    text.text((MARGIN, MARGIN), heading, fill=INK, font=_font(34), anchor="la")
    for index, line in enumerate(lines):
        image.paste(line, (MARGIN, top + index * (ROW_HEIGHT + GAP)))
    return image


def _line(row: Row, original: Row) -> Image.Image:
    own = {name: (row[name] or original[name] or {}).get("bytes") for name in MEDIA}
    parts = [_label(row, original)]
    if own["video"]:
        parts.append(strip(read_video(own["video"], max_side=2 * ROW_HEIGHT).frames, FRAMES, ROW_HEIGHT))
    if own["audio"]:
        audio = Image.open(io.BytesIO(spectrogram(read_audio(own["audio"])))).convert("RGB")
        parts.append(audio.resize((AUDIO_WIDTH, ROW_HEIGHT), Image.Resampling.BICUBIC))
    parts.append(_weight(row))
    line = Image.new("RGB", (sum(part.width + GAP for part in parts) - GAP, ROW_HEIGHT), PAPER)
    left = 0
    for part in parts:
        line.paste(part, (left, 0))
        left += part.width + GAP
    return line


def _label(row: Row, original: Row) -> Image.Image:
    image = Image.new("RGB", (LABEL_WIDTH, ROW_HEIGHT), PAPER)
    draw = ImageDraw.Draw(image)
    name = "original" if row["kind"] == "original" else row["id"].rpartition("#")[2].replace("-", " ")
    draw.text((0, ROW_HEIGHT / 2 - 20), name, fill=COLOURS[row["kind"]], font=_font(32), anchor="lm")
    new = [name for name in MEDIA if row[name] not in (None, original[name])]
    below = f"new {' and '.join(new)}" if new else "as recorded"
    draw.text((0, ROW_HEIGHT / 2 + 20), below, fill=SOFT, font=_font(22), anchor="lm")
    return image


def _weight(row: Row) -> Image.Image:
    image = Image.new("RGB", (WEIGHT_WIDTH, ROW_HEIGHT), PAPER)
    draw = ImageDraw.Draw(image)
    middle, weight = ROW_HEIGHT // 2, float(row["weight"])
    draw.text((0, middle - 22), f"{weight:.2f}", fill=INK, font=_font(36), anchor="lm")
    draw.text((86, middle - 20), "weight", fill=SOFT, font=_font(22), anchor="lm")
    draw.rectangle((0, middle + 14, WEIGHT_WIDTH, middle + 26), fill=TRACK)
    draw.rectangle((0, middle + 14, round(WEIGHT_WIDTH * weight), middle + 26), fill=COLOURS[row["kind"]])
    return image


def _font(size: int) -> Any:
    return ImageFont.load_default(size)


def _cut(text: str, width: int, size: int) -> str:
    """The text on one line, shortened until it fits."""
    line = " ".join(text.split())
    while _font(size).getlength(line) > width:
        line = line[:-2].rstrip() + "…"
    return line


def choose(reader: StoreReader) -> list[int]:
    """Positions of the family with variants whose weights differ most.

    Raises:
        RunError: If the store has no variants.
    """
    families = [rows for rows in select(reader, None) if len(rows) > 1]
    if not families:
        raise RunError(
            f"{reader.directory}: has no variants to draw; give a store that `augment` or `score` wrote"
        )
    weights = reader.table["weight"].to_pylist()
    return max(families, key=lambda rows: float(np.ptp([weights[row] for row in rows[1:]])))


def main(argv: list[str]) -> None:
    """Write the image."""
    about = "Draw an original beside its variants as one image, with their weights."
    parser = argparse.ArgumentParser(prog="python -m pipelines.report.variants_picture", description=about)
    parser.add_argument("store", type=Path, metavar="STORE")
    parser.add_argument("--out", type=Path, required=True, metavar="PICTURE.png")
    parser.add_argument("--source", help="id of the original to draw")
    arguments = parser.parse_args(argv)
    reader = StoreReader(arguments.store)
    if arguments.source is None:
        positions = choose(reader)
    else:
        index = reader.index_of(arguments.source)
        positions = next(rows for rows in select(reader, None) if index in rows)
    rows = sorted(map(reader.row, positions), key=lambda row: row["kind"] != "original")
    draw_family(rows).quantize(256).save(arguments.out, optimize=True)
    print(arguments.out)


if __name__ == "__main__":
    call(main)

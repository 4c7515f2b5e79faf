"""Cropping that a container states, against ffmpeg's command line."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
from imageio_ffmpeg import get_ffmpeg_exe

from pipelines.media import MediaError, open_clip, read_video

SIZE = 128, 96


def ffmpeg(*arguments: str) -> bytes:
    command = [get_ffmpeg_exe(), "-v", "error", "-y", *arguments]
    return subprocess.run(command, capture_output=True, check=True).stdout


def write_clip(path: Path) -> bytes:
    """A clip with sound, whose video is its second track."""
    picture = f"testsrc2=size={SIZE[0]}x{SIZE[1]}:rate=10:duration=1"
    inputs = ["-f", "lavfi", "-i", "sine=duration=1", "-f", "lavfi", "-i", picture]
    codecs = ["-map", "0", "-map", "1", "-c:v", "libx264", "-pix_fmt", "yuv420p", "-c:a", "aac"]
    ffmpeg(*inputs, *codecs, str(path))
    return path.read_bytes()


def with_clap(mp4: bytes, *values: int) -> bytes:
    """An MP4 with a `clap` box in the entry of its H.264 track; the index lies behind the media."""
    box = struct.pack(">I4s8i", 40, b"clap", *values)
    place = mp4.index(b"avc1", mp4.index(b"moov"))
    data = bytearray(mp4)
    around = [mp4.rindex(name, 0, place) for name in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd")]
    for name in [*around, place]:
        (size,) = struct.unpack(">I", data[name - 4 : name])
        data[name - 4 : name] = struct.pack(">I", size + len(box))
    (size,) = struct.unpack(">I", mp4[place - 4 : place])
    end = place - 4 + size
    return bytes(data[:end]) + box + bytes(data[end:])


def with_pixel_crop(mkv: bytes, left: int, top: int) -> bytes:
    """A Matroska file with PixelCropLeft and PixelCropTop in the place of its colours."""
    colours = b"\x9a\x81\x02\x55\xb0\x84\x55\xb9\x81\x01"
    crop = b"\x54\xcc\x81" + bytes([left]) + b"\x54\xbb\x81" + bytes([top]) + b"\xec\x80"
    assert mkv.count(colours) == 1
    return mkv.replace(colours, crop)


def as_ffmpeg_shows(path: Path, width: int, height: int) -> np.ndarray:
    raw = ffmpeg("-i", str(path), "-f", "rawvideo", "-pix_fmt", "rgb24", "-")
    return np.frombuffer(raw, np.uint8).reshape(-1, height, width, 3)


@pytest.fixture(params=["mp4", "mkv", "mkv in memory"])
def cropped(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, bytes | Path, tuple[int, int]]:
    """The file, what is read, and the size that it shows."""
    form = request.param[:3]
    path = tmp_path / f"clip.{form}"
    plain = write_clip(path)
    if form == "mp4":  # 100 x 60 around a centre that lies 4 right of the frame's and 6 above it
        path.write_bytes(with_clap(plain, 100, 1, 120, 2, 4, 1, -6, 1))
        return path, path, (100, 60)
    path.write_bytes(with_pixel_crop(plain, left=24, top=16))
    return path, path.read_bytes() if "memory" in request.param else path, (104, 80)


def test_a_cropped_clip_is_what_ffmpeg_shows(
    cropped: tuple[Path, bytes | Path, tuple[int, int]],
) -> None:
    path, source, (width, height) = cropped
    clip = open_clip(source)
    assert (clip.info.width, clip.info.height) == (width, height)
    assert f"cropped from 128x96 to {width}x{height}, as the container states" in clip.notes
    frames = read_video(source).frames
    shown = as_ffmpeg_shows(path, width, height)
    assert frames.shape == shown.shape
    # The command's own conversion to RGB rounds differently.
    assert np.abs(frames.astype(int) - shown).mean() < 1.5


def test_a_cropped_clip_is_shrunk_and_keeps_its_length(tmp_path: Path) -> None:
    path = tmp_path / "clip.mkv"
    path.write_bytes(with_pixel_crop(write_clip(path), left=24, top=16))
    assert read_video(path, max_side=52).frames.shape == (10, 40, 52, 3)


@pytest.mark.parametrize(
    "values",
    [(100, 0, 60, 1, 0, 1, 0, 1), (300, 1, 60, 1, 0, 1, 0, 1), (100, 1, 60, 1, 90, 1, 0, 1)],
    ids=["divides by zero", "larger than the frame", "beside the frame"],
)
def test_an_absurd_crop_is_not_kept(values: tuple[int, ...], tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(with_clap(write_clip(path), *values))
    assert read_video(path).frames.shape == (10, 96, 128, 3)
    assert len(as_ffmpeg_shows(path, *SIZE)) == 10


@pytest.mark.parametrize("form", ["mp4", "mkv"])
def test_a_file_that_is_cut_anywhere_gives_no_other_error(form: str, tmp_path: Path) -> None:
    path = tmp_path / f"clip.{form}"
    plain = write_clip(path)
    data = with_pixel_crop(plain, 24, 16) if form == "mkv" else with_clap(plain, 100, 1, 60, 1, 0, 1, 0, 1)
    rng = np.random.default_rng(0)
    for _ in range(300):
        broken = bytearray(data[: rng.integers(1, len(data))] if rng.random() < 0.3 else data)
        for place in rng.integers(0, len(broken), 20):
            broken[place] = rng.integers(256)
        try:
            open_clip(bytes(broken))
        except MediaError:
            continue

"""Clips of every kind made by ffmpeg's command line, and what that command reads from them.

A clip is white below, and its tone sounds, for `ON_S` from each second on. A red patch is upper left, a
blue one upper right, and a bar moves between them, but for a while in which nothing moves.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from imageio_ffmpeg import get_ffmpeg_exe

DURATION_S = 3.0
ON_S = 0.2
SAMPLING_RATE = 16_000
# Video codec, its options, container, and the audio codecs that the container takes.
CONTAINERS: list[tuple[str, list[str], str, list[str]]] = [
    ("libx264", [], "mp4", ["aac", "libmp3lame", "ac3"]),
    ("libx264", ["-bf", "0"], "mov", ["aac", "pcm_s16le"]),
    ("libx264", ["-x264-params", "open-gop=1:keyint=12:bframes=3"], "mkv", ["aac", "flac", "libopus"]),
    ("libx264", [], "ts", ["aac", "ac3"]),
    ("libx264", [], "flv", ["aac", "libmp3lame"]),
    ("libx265", ["-x265-params", "log-level=none"], "mp4", ["aac"]),
    ("libvpx", ["-auto-alt-ref", "1", "-lag-in-frames", "16"], "webm", ["libvorbis", "libopus"]),
    ("libvpx-vp9", ["-deadline", "realtime", "-cpu-used", "8"], "webm", ["libopus"]),
    ("libtheora", [], "ogv", ["libvorbis"]),
    ("mpeg4", ["-bf", "2"], "mp4", ["aac"]),
    ("mpeg4", [], "avi", ["libmp3lame", "pcm_s16le"]),
    ("mpeg2video", ["-bf", "2"], "ts", ["mp2", "ac3"]),
    ("mpeg2video", [], "mpg", ["mp2"]),
    ("mjpeg", [], "mov", ["pcm_s16le"]),
    ("wmv2", [], "asf", ["wmav2"]),
    ("flv", [], "flv", ["libmp3lame"]),
]
TURNS = {"mp4": True, "mov": True}
# These hold several audio tracks and say which is the default one.
TRACKS = {"mp4", "mov", "mkv"}


@dataclass(frozen=True, kw_only=True)
class Case:
    """One combination."""

    codec: tuple[str, list[str], str, list[str]]
    audio_codec: str
    rate: Fraction
    size: tuple[int, int]
    pixel_ratio: Fraction
    rotation: int
    mirrored: bool
    video_late_s: float
    audio_late_s: float
    gap: tuple[float, float] | None
    layout: str
    sampling_rate: int
    silent_first: bool
    """Whether a silent track that is not the default one stands before the one with the tone."""


def draw(rng: np.random.Generator) -> Case:
    """A random combination that ffmpeg can write."""
    codec = CONTAINERS[rng.integers(len(CONTAINERS))]
    name, _, form, audio_codecs = codec
    audio_codec = str(rng.choice(audio_codecs))
    rates = [25, 30, Fraction(30000, 1001), 24] if name.startswith("mpeg2") else [10, 12, 15, 24, 25, 30, 50]
    turns = form in ("mp4", "mov")
    late = form not in ("mpg", "avi", "asf")
    offset = float(rng.choice([0.0, 0.0, 0.15, 0.3, 0.55])) if late else 0.0
    first = bool(rng.integers(2))
    opus = audio_codec == "libopus"
    six = audio_codec in ("aac", "ac3", "flac")
    return Case(
        codec=codec,
        audio_codec=audio_codec,
        rate=Fraction(rates[rng.integers(len(rates))]),
        size=[(96, 64), (112, 80), (64, 96)][rng.integers(3)],
        pixel_ratio=[Fraction(1), Fraction(4, 3), Fraction(64, 45), Fraction(8, 9)][rng.integers(4)]
        if name in ("libx264", "libx265") and form != "flv"
        else Fraction(1),
        rotation=int(rng.choice([0, 90, 180, 270])) if turns else 0,
        mirrored=bool(turns and rng.integers(4) == 0),
        video_late_s=offset if first else 0.0,
        audio_late_s=0.0 if first else offset,
        gap=(1.3, 1.8) if form in ("mp4", "mkv", "ts") and rng.integers(3) == 0 else None,
        layout=str(rng.choice(["mono", "stereo", *(["5.1"] if six else [])])),
        sampling_rate=48_000 if opus or audio_codec == "ac3" else int(rng.choice([44_100, 48_000])),
        silent_first=form in TRACKS and bool(rng.integers(3) == 0),
    )


def write(case: Case, folder: Path) -> Path:
    """Make the clip: video and audio apart, then put together with their offsets, gap and display matrix."""
    codec, options, form, _ = case.codec
    width, height = case.size
    on = f"lt(mod(t,1),{ON_S})*gte(t,1)"
    video = (
        f"color=gray:s={width}x{height}:r={case.rate}:d={DURATION_S},"
        f"drawbox=y=ih/2:h=ih/2:w=iw:c=white:t=fill:enable='{on}',"
        "drawbox=x=0:y=0:w=iw/4:h=ih/4:c=red:t=fill,drawbox=x=iw*3/4:y=0:w=iw/4:h=ih/4:c=blue:t=fill[a];"
        f"color=black:s=4x8:r={case.rate}:d={DURATION_S}[b];"
        "[a][b]overlay=x='W/4+if(between(t,1.5,1.9),0,mod(40*t,W/2))':y=8,"
        f"setsar={case.pixel_ratio.numerator}/{case.pixel_ratio.denominator},format=yuv420p"
    )
    channels = {"mono": 1, "stereo": 2, "5.1": 6}[case.layout]
    tone = "|".join([f"0.4*sin(2*PI*1000*t)*{on}"] * channels)
    audio = f"aevalsrc='{tone}':s={case.sampling_rate}:d={DURATION_S}:c={case.layout}"
    silence = f"anullsrc=r={case.sampling_rate}:cl={case.layout}:d={DURATION_S}"
    between = form if form in ("mp4", "mov", "avi", "asf", "ogv") else "mkv"
    own = folder / f"video.{between}"
    quality = ["-preset", "ultrafast"] if codec in ("libx264", "libx265") else ["-q:v", "3"]
    ffmpeg("-f", "lavfi", "-i", video, "-c:v", codec, *quality, *options, "-g", "12", own)
    sounds = []
    for index, source in enumerate([silence, audio] if case.silent_first else [audio]):
        sounds.append(folder / f"audio{index}.{'mkv' if between in ('mp4', 'mov') else between}")
        ffmpeg("-f", "lavfi", "-i", source, "-c:a", case.audio_codec, "-strict", "-2", sounds[-1])
    turned = ["-display_rotation", str(-case.rotation)] if case.rotation else []
    turned += ["-display_hflip"] if case.mirrored else []
    inputs: list[Any] = [*turned, "-itsoffset", str(case.video_late_s), "-i", own]
    for sound in sounds:
        inputs += ["-itsoffset", str(case.audio_late_s), "-i", sound]
    maps = [part for index in range(1 + len(sounds)) for part in ("-map", str(index))]
    dispositions = ["-disposition:a:0", "0", "-disposition:a:1", "default"] if case.silent_first else []
    gap = (
        ["-bsf:a", f"noise=drop='gt(pts*tb\\,{case.gap[0]})*lt(pts*tb\\,{case.gap[1]})'"] if case.gap else []
    )
    path = folder / f"clip.{form}"
    ffmpeg(*inputs, *maps, "-c", "copy", *gap, *dispositions, path)
    return path


def shown_and_heard(path: Path, fps: float, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """What ffmpeg shows at `fps`, and sounds at 16 kHz, from the file's start on.

    Both come of one command: one that is asked for the video alone takes its start for the file's.

    Returns:
        Frames, uint8 RGB (F, height, width, 3), and mono samples, float32 (samples,).
    """
    raw = path.with_suffix(".rgb"), path.with_suffix(".f32")
    show = ["-vf", f"fps={fps}:start_time=0,scale={width}:{height}", "-f", "rawvideo", "-pix_fmt", "rgb24"]
    mix = ["-af", "aresample=async=1:min_hard_comp=0.02:first_pts=0", "-ac", "1", "-ar", str(SAMPLING_RATE)]
    ffmpeg("-i", path, "-an", *show, "-fps_mode", "passthrough", raw[0], "-vn", *mix, "-f", "f32le", raw[1])
    frames = np.fromfile(raw[0], np.uint8).reshape(-1, height, width, 3)
    return frames, np.fromfile(raw[1], np.float32)


def shape(path: Path) -> float:
    """Width over height as ffmpeg displays the first frame, pixels square."""
    square = ["-vf", "scale=iw*sar:ih,setsar=1", "-frames:v", "1", "-f", "image2pipe", "-c:v", "ppm", "-"]
    width, height = ffmpeg("-i", path, *square).split(b"\n")[1].split()
    return int(width) / int(height)


def ffmpeg(*arguments: object) -> bytes:
    """Run ffmpeg; its stdout."""
    command = [get_ffmpeg_exe(), "-nostdin", "-v", "error", "-y", "-threads", "1", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr.decode()}"
    return done.stdout


def onsets(on: np.ndarray, rate: float) -> list[float]:
    """When a signal begins to be on, in seconds."""
    starts = np.flatnonzero(on & ~np.concatenate([[False], on[:-1]]))
    return [round(float(start) / rate, 3) for start in starts]


def white(shown: np.ndarray) -> np.ndarray:
    """Of which frames the lower half, or whichever half it was turned to, is white: shape (F,)."""
    level = shown.reshape(len(shown), -1).mean(axis=1)
    return level > (level.min() + level.max()) / 2


def sounding(heard: np.ndarray) -> np.ndarray:
    """In which hundredths of a second there is a tone."""
    hop = SAMPLING_RATE // 100
    level = np.sqrt(np.square(heard[: len(heard) // hop * hop].reshape(-1, hop)).mean(axis=1))
    return level > 0.3 * level.max()

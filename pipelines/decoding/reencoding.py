"""A clip's file, decoded and encoded anew with the encoder of variants.

Imports little, since every child process of an import loads it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipelines.media import Clip, encode_audio, encode_video, open_clip
from pipelines.media_types import MediaError, MediaInfo

MAX_FPS = 30.0  # of clips whose rate is not set
SAMPLING_RATE = 16_000


@dataclass(frozen=True, kw_only=True)
class Reencoded:
    """What a row holds of a media file."""

    video: bytes | None
    """MP4 without sound."""
    audio: bytes | None
    """FLAC, mono, 16 kHz."""
    duration_s: float
    fps: float | None
    notes: list[str]
    """What is odd about the file, and what became of it."""
    source: dict[str, Any]
    """The file's properties: the fields of `MediaInfo` but its notes."""


def reencode(
    path: Path,
    *,
    max_duration_s: float,
    max_side: int | None,
    fps: float | None,
    audio_language: str | None = None,
) -> Reencoded:
    """Decode a media file and encode it anew; see `ImportConfig` for the settings.

    Raises:
        MediaError: If the file is rejected.
    """
    clip = open_clip(path, max_duration_s=max_duration_s, audio_language=audio_language)
    info, notes = clip.info, []
    video, duration_s, rate = None, info.audio_duration_s, None
    if info.has_video:
        stream = clip.video(fps=fps or min(info.fps, MAX_FPS), max_side=max_side)
        video, duration_s, rate = encode_video(stream, stream.fps), stream.length / stream.fps, stream.fps
        notes += _video_notes(info, stream.fps, stream.width, stream.height)
    else:
        notes.append("no video stream")
    audio, note = _audio(clip)
    notes = [*clip.notes, *notes, *([note] if note else [])]
    if video is None and audio is None:
        raise MediaError(f"{path}: has neither video nor audio ({', '.join(notes)})")
    source = {name: value for name, value in asdict(info).items() if name != "notes"}
    return Reencoded(video=video, audio=audio, duration_s=duration_s, fps=rate, notes=notes, source=source)


def _audio(clip: Clip) -> tuple[bytes | None, str | None]:
    """The encoded audio, or None and why there is none."""
    if not clip.info.has_audio:
        return None, "no audio stream"
    samples = clip.audio(SAMPLING_RATE)
    if abs(samples).max() * 32768 < 0.5:  # every sample is 0 once it has 16 bits
        return None, "digital silence"
    return encode_audio(samples, SAMPLING_RATE), None


def _video_notes(info: MediaInfo, fps: float, width: int, height: int) -> list[str]:
    notes = []
    if not info.constant_rate:
        notes.append(f"variable frame rate, sampled at {fps:.3f} a second")
    if width % 2 or height % 2:
        notes.append(f"odd size {width}x{height}, cropped to {width - width % 2}x{height - height % 2}")
    return notes

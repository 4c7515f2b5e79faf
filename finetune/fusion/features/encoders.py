"""The encoders that make features of a store's clips: built-in ones, or pre-trained models.

`load_encoders` loads the models; what it returns turns a row into a sequence of vectors, or None if the row
lacks the modality.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from finetune.fusion.settings import ExtractSettings
from pipelines import media
from pipelines.device import pick
from pipelines.row import Row

# Encoders that need no download.
BUILT_IN = {"text": "words", "audio": "log_mel", "video": "edges"}
SAMPLING_RATE = 16_000
FRAME_SIDE_PX = 448  # frames are decoded at this size for pre-trained encoders, which use half of it


@dataclass(frozen=True)
class Encoder:
    """Makes one modality's features."""

    encode: Callable[[Row], np.ndarray | None]
    """A row's vectors, (steps, dimensions)."""
    origin: str
    """Its name; of a model on the Hub with the commit."""


def load_encoders(modalities: tuple[str, ...], settings: ExtractSettings) -> dict[str, Encoder]:
    """The encoders that the settings name.

    Raises:
        UsageError: If a model cannot be loaded or does not fit its modality; the message names the key.
    """
    return {name: _encoder(name, settings) for name in modalities}


def _encoder(name: str, settings: ExtractSettings) -> Encoder:
    origin: str = getattr(settings, name)
    if origin == BUILT_IN[name]:
        vectors, side_px = _built_in(name, settings), 2 * settings.frame_px
    else:
        from finetune.fusion.features.pretrained import load

        options: dict[str, Any] = {"batch_size": settings.batch_size} if name == "video" else {}
        model = load(name, origin, getattr(settings, f"{name}_revision"), pick(settings.device), **options)
        commit = getattr(model.model.config, "_commit_hash", None)
        origin = f"{origin}@{commit}" if commit else origin
        vectors = partial(model, fps=settings.audio_fps) if name == "audio" else model
        side_px = FRAME_SIDE_PX

    def encode(row: Row) -> np.ndarray | None:
        content = _content(row, name, settings, side_px)
        return None if content is None else vectors(content)

    return Encoder(encode, origin)


def _built_in(name: str, settings: ExtractSettings) -> Callable[[Any], np.ndarray | None]:
    from finetune.fusion.features import built_in

    if name == "text":
        return partial(built_in.word_vectors, dimensions=settings.word_dimensions)
    if name == "audio":
        return partial(built_in.spectra, mel_bands=settings.mel_bands, fps=settings.audio_fps)
    return partial(built_in.oriented_edges, side_px=settings.frame_px, cells=settings.cells)


def _content(row: Row, name: str, settings: ExtractSettings, side_px: int) -> str | np.ndarray | None:
    """An encoder's input: a row's words, float32 mono at 16 kHz, or uint8 RGB frames (F, H, W, 3)."""
    if name == "text":
        return row["text"] or ""
    if row[name] is None:
        return None
    if name == "audio":
        samples = media.read_audio(row["audio"]["bytes"], sampling_rate=SAMPLING_RATE)
        return samples[: int(settings.max_duration_s * SAMPLING_RATE)]
    frames = media.read_video(row["video"]["bytes"], fps=settings.video_fps, max_side=side_px).frames
    return frames[: max(1, int(settings.max_duration_s * settings.video_fps))]

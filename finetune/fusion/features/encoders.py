"""Which encoder makes a modality's features of a store's clips: a built-in one, or a pre-trained model.

`load_encoders` is where models come from; what it returns turns a row into a sequence of vectors, or
None where the row lacks the modality.
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
FRAME_SIDE_PX = 448  # to which frames are shrunk for pre-trained encoders, which see half of that


@dataclass(frozen=True)
class Encoder:
    """What makes one modality's features."""

    encode: Callable[[Row], np.ndarray | None]
    """A row's vectors, (steps, dimensions)."""
    origin: str
    """Its name; of a model on the Hub with the commit."""


def load_encoders(modalities: tuple[str, ...], settings: ExtractSettings) -> dict[str, Encoder]:
    """The encoders that the settings name.

    Raises:
        UsageError: If a model cannot be had or does not fit its modality; the message names the key.
    """
    return {name: _encoder(name, settings) for name in modalities}


def _encoder(name: str, settings: ExtractSettings) -> Encoder:
    chosen: str = getattr(settings, name)
    if chosen == BUILT_IN[name]:
        return Encoder(partial(PLAIN[name], settings=settings), chosen)
    from finetune.fusion.features import pretrained

    options: dict[str, Any] = {"batch_size": settings.batch_size} if name == "video" else {}
    revision, device = getattr(settings, f"{name}_revision"), pick(settings.device)
    model = pretrained.LOADERS[name](chosen, revision, device, **options)
    commit = getattr(model.model.config, "_commit_hash", None)
    return Encoder(
        partial(OF_MODEL[name], model=model, settings=settings), f"{chosen}@{commit}" if commit else chosen
    )


def sound_of(row: Row, settings: ExtractSettings) -> np.ndarray | None:
    """A row's sound as float32 mono at 16 kHz, cut at the longest duration."""
    if row["audio"] is None:
        return None
    samples = media.read_audio(row["audio"]["bytes"], sampling_rate=SAMPLING_RATE)
    return samples[: int(settings.max_duration_s * SAMPLING_RATE)]


def frames_of(row: Row, settings: ExtractSettings, side_px: int) -> np.ndarray | None:
    """A row's frames, uint8 RGB (F, H, W, 3), cut at the longest duration."""
    if row["video"] is None:
        return None
    clip = media.read_video(row["video"]["bytes"], fps=settings.video_fps, max_side=side_px)
    return clip.frames[: max(1, int(settings.max_duration_s * settings.video_fps))]


def _words(row: Row, settings: ExtractSettings) -> np.ndarray | None:
    from finetune.fusion.features.built_in import word_vectors

    return word_vectors(row["text"] or "", settings.word_dimensions)


def _log_mel(row: Row, settings: ExtractSettings) -> np.ndarray | None:
    from finetune.fusion.features.built_in import spectra

    samples = sound_of(row, settings)
    return None if samples is None else spectra(samples, settings.mel_bands, settings.audio_fps)


def _edges(row: Row, settings: ExtractSettings) -> np.ndarray | None:
    from finetune.fusion.features.built_in import oriented_edges

    frames = frames_of(row, settings, 2 * settings.frame_px)
    return None if frames is None else oriented_edges(frames, settings.frame_px, settings.cells)


def _states_of_words(row: Row, model: Any, settings: ExtractSettings) -> np.ndarray | None:
    return model(row["text"] or "")


def _states_of_sound(row: Row, model: Any, settings: ExtractSettings) -> np.ndarray | None:
    samples = sound_of(row, settings)
    return None if samples is None else model(samples, settings.audio_fps)


def _states_of_frames(row: Row, model: Any, settings: ExtractSettings) -> np.ndarray | None:
    frames = frames_of(row, settings, FRAME_SIDE_PX)
    return None if frames is None else model(frames)


PLAIN = {"text": _words, "audio": _log_mel, "video": _edges}
OF_MODEL = {"text": _states_of_words, "audio": _states_of_sound, "video": _states_of_frames}

"""Voice conversion by Chatterbox, in this process, where the package `chatterbox` is installed.

The releases of its authors put an inaudible watermark on all that they make, and `chatterbox-light` does
not. In training data it is a cue that tells variants from originals, which have none; so it is left out
unless it is asked for, and either way a row says which.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from augment import waveform
from augment.audio.settings import AudioSettings
from pipelines import media, provenance
from pipelines.errors import UsageError, reason

MODEL = "ResembleAI/chatterbox"
PACKAGES = ("chatterbox-light", "chatterbox-tts")
INSTALL = "pip install 'daq-msa[voices]'"


class Chatterbox:
    """Holds the loaded model.

    Args:
        settings: Of the audio variants.
        device: A torch device.

    Raises:
        UsageError: If the package or the weights are not there.
    """

    def __init__(self, settings: AudioSettings, device: str) -> None:
        self.device = device
        self.model = load(settings.chatterbox.folder, device)
        self.watermark = _mark(self.model, keep=settings.chatterbox.watermark == "keep")

    def __call__(
        self, source: np.ndarray, reference: np.ndarray, sampling_rate: int, *, seed: int
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Convert a clip.

        Args:
            source: float32 mono (samples,) in [-1, 1].
            reference: The target voice, like `source`; its first 10 s count.
            sampling_rate: Of both, in Hz.
            seed: Of all that is drawn.

        Returns:
            float32 of the source's shape, rate and loudness, and what made it.

        Raises:
            ValueError: If a sound or the answer cannot be used.
        """
        waveform.level("audio", source)
        waveform.level("reference", reference)
        made = self._generate(source, reference, sampling_rate, seed)
        details = {
            "method": "chatterbox",
            "model": MODEL,
            "watermark": self.watermark,
            "program": provenance.versions(PACKAGES),
        }
        return waveform.answered("Chatterbox", made, self.model.sr, source, sampling_rate), details

    def _generate(
        self, source: np.ndarray, reference: np.ndarray, sampling_rate: int, seed: int
    ) -> np.ndarray:
        """What the model answers, (samples,); it takes files."""
        import torch

        gpus = [self.device] if self.device.startswith("cuda") else []
        with tempfile.TemporaryDirectory() as folder, torch.random.fork_rng(gpus):
            paths = [Path(folder, f"{name}.flac") for name in ("source", "reference")]
            for path, samples in zip(paths, (source, reference), strict=True):
                path.write_bytes(media.encode_audio(samples, sampling_rate))
            torch.manual_seed(seed)
            made = self.model.generate(str(paths[0]), target_voice_path=str(paths[1]))
        return made.detach().float().cpu().numpy().reshape(-1)  # (1, samples) -> (samples,)


def load(folder: str | None, device: str) -> Any:
    """The model, a `ChatterboxVC`.

    Args:
        folder: With its weights; None downloads the published ones.
        device: A torch device.

    Raises:
        UsageError: If the package is not installed or the weights cannot be loaded.
    """
    from safetensors import SafetensorError

    try:
        from chatterbox.vc import ChatterboxVC
    except ImportError as error:
        raise UsageError(
            f"augment.audio.method: chatterbox cannot be imported ({error}); {INSTALL}, or take flow_matching"
        ) from error
    try:
        if folder is None:
            return ChatterboxVC.from_pretrained(device)
        return ChatterboxVC.from_local(Path(folder), device)
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise UsageError(
            f"augment.audio.chatterbox.folder: its weights cannot be loaded from {folder or MODEL}"
            f" ({reason(error)}); take a folder with s3gen.safetensors, or null for those of the Hub"
        ) from error


class _Unmarked:
    """In place of a watermarker: gives the sound back as it is."""

    def apply_watermark(self, wav: Any, watermark: Any = None, sample_rate: int = 0) -> Any:
        return wav


def _mark(model: Any, *, keep: bool) -> str:
    """Leave a model's watermark out where it is not kept; what its results then bear, for the rows."""
    marker = getattr(model, "watermarker", None)
    if marker is None:
        return "none: this release sets none"
    if keep:
        return f"kept: {type(marker).__name__}"
    model.watermarker = _Unmarked()
    return f"left out: {type(marker).__name__}"

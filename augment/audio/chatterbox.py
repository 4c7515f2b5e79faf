"""Voice conversion by Chatterbox, in this process, if the package `chatterbox` is installed.

The releases of its authors add an inaudible watermark to all output; `chatterbox-light` does not. In training
data a watermark is a cue that tells variants from originals, so it is removed unless the settings keep it.
The rows record which.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import SimpleNamespace
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
        UsageError: If the package or the weights are missing.
    """

    def __init__(self, settings: AudioSettings, device: str) -> None:
        self.device = device
        self.model = load(settings.chatterbox.folder, device)
        self.weights = {"model": provenance.weights(settings.chatterbox.folder or MODEL)}
        self.watermark = _set_watermark(self.model, keep=settings.chatterbox.watermark == "keep")

    def __call__(
        self, source: np.ndarray, reference: np.ndarray, sampling_rate: int, *, seed: int
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Convert a clip, as described in `augment.audio.variants.Converter`.

        Only the first 10 s of the reference matter. The output is as loud as the source.

        Raises:
            ValueError: If an input or the output cannot be used.
        """
        import torch

        waveform.level("audio", source)
        waveform.level("reference", reference)
        gpus = [self.device] if self.device.startswith("cuda") else []
        with tempfile.TemporaryDirectory() as folder, torch.random.fork_rng(gpus):
            paths = [Path(folder, f"{name}.flac") for name in ("source", "reference")]
            for path, samples in zip(paths, (source, reference), strict=True):
                path.write_bytes(media.encode_audio(samples, sampling_rate))
            torch.manual_seed(seed)
            made = self.model.generate(str(paths[0]), target_voice_path=str(paths[1]))
        samples = made.detach().float().cpu().numpy().reshape(-1)  # (1, samples) -> (samples,)
        output = waveform.checked_output("Chatterbox", samples, self.model.sr, source, sampling_rate)
        details: dict[str, Any] = {"method": "chatterbox", "model": MODEL, "watermark": self.watermark}
        details |= {"weights": self.weights, "precision": "float32"}
        return output, details | {"program": provenance.versions(PACKAGES)}


def load(folder: str | None, device: str) -> Any:
    """Load the model, a `ChatterboxVC`.

    Args:
        folder: The folder of its weights; None downloads the published ones.
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


def _set_watermark(model: Any, *, keep: bool) -> str:
    """Remove a model's watermarker unless it is kept; returns what to record in the rows."""
    marker = getattr(model, "watermarker", None)
    if marker is None:
        return "none: this release sets none"
    if not keep:
        model.watermarker = SimpleNamespace(apply_watermark=lambda wav, *_, **__: wav)
    return f"{'kept' if keep else 'left out'}: {type(marker).__name__}"

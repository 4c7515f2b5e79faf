"""Simple features that need no download: hashed words, log-mel bands, oriented edges of frames."""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from finetune.fusion.settings import SAMPLING_RATE

WINDOW = 1024  # samples of a spectrum, 64 ms: enough to resolve the harmonics of a voice
QUIETEST = 1e-6  # power below which there is silence
ORIENTATIONS = 6  # directions of edges, over half a turn
# Chinese, Japanese and Korean characters are words by themselves; other words are runs of letters.
WORD = re.compile(
    r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W_](?:[^\W_\u3040-\u30ff\u3400-\u9fff]|['’])*"
)


def word_vectors(text: str, dimensions: int) -> np.ndarray | None:
    """A vector for each word of a transcript, (words, dimensions); None if there is none."""
    words = WORD.findall(text.lower())
    return np.stack([word_vector(word, dimensions) for word in words]) if words else None


@lru_cache(maxsize=100_000)
def word_vector(word: str, dimensions: int) -> np.ndarray:
    """A fixed vector of a word, near those of words with a similar spelling: (dimensions,), length 1.

    The sum of random vectors drawn from a hash of the word and of its letter trigrams, so that it needs no
    vocabulary and unseen forms of a word are near the known one.
    """
    marked = f"<{word}>"
    spelling = [_drawn(f"#{marked[start : start + 3]}", dimensions) for start in range(len(marked) - 2)]
    # Both halves have about the same length: the word itself, and its spelling.
    total = _drawn(word, dimensions) + np.sum(spelling, axis=0) / np.sqrt(len(spelling))
    return (total / np.linalg.norm(total)).astype(np.float32)


def _drawn(piece: str, dimensions: int) -> np.ndarray:
    seed = int.from_bytes(hashlib.sha256(piece.encode()).digest()[:8], "big")
    return np.random.default_rng(seed).standard_normal(dimensions)


def spectra(samples: np.ndarray, mel_bands: int, fps: float) -> np.ndarray:
    """Log-mel spectra of float32 mono at 16 kHz, (samples,) -> (spectra, mel_bands)."""
    hop = round(SAMPLING_RATE / fps)
    padded = np.pad(samples, (0, max(0, WINDOW - len(samples))))
    power = _mel(mel_bands, hop)(torch.from_numpy(padded))  # (mel_bands, spectra)
    return (power + QUIETEST).log().T.numpy()


@lru_cache
def _mel(mel_bands: int, hop: int) -> Any:
    import torchaudio

    return torchaudio.transforms.MelSpectrogram(
        SAMPLING_RATE, n_fft=WINDOW, hop_length=hop, n_mels=mel_bands, f_min=40.0
    )


def oriented_edges(frames: np.ndarray, side_px: int, cells: int) -> np.ndarray:
    """Histograms of edge directions over a grid, as in HOG, with the cells' brightness.

    Args:
        frames: uint8 RGB (F, H, W, 3); the square in their middle is used.
        side_px: The side that it is scaled to.
        cells: Cells per side.

    Returns:
        (F, cells² × (ORIENTATIONS + 1)), edges relative to the frame's own strength.
    """
    grey = torch.from_numpy(frames).float().mean(-1)[:, None] / 255  # (F, 1, H, W)
    side = min(grey.shape[-2:])
    top, left = (grey.shape[-2] - side) // 2, (grey.shape[-1] - side) // 2
    square = grey[:, :, top : top + side, left : left + side]
    size = (side_px, side_px)
    square = torch.nn.functional.interpolate(square, size, mode="bilinear", antialias=True)[:, 0]
    down, across = torch.gradient(square, dim=(1, 2))
    strength = (down**2 + across**2).sqrt()
    direction = torch.atan2(down, across) % torch.pi * (ORIENTATIONS / torch.pi)  # in [0, ORIENTATIONS)
    centres = torch.arange(ORIENTATIONS)[:, None, None, None]
    distance = (direction - centres).abs()
    nearness = (1 - torch.minimum(distance, ORIENTATIONS - distance)).clamp_min(0)  # (O, F, H, W)
    maps = torch.cat([nearness * strength, square[None]]).transpose(0, 1)  # (F, O + 1, H, W)
    pooled = torch.nn.functional.avg_pool2d(maps, side_px // cells)  # (F, O + 1, cells, cells)
    pooled[:, :-1] /= strength.mean((1, 2)).clamp_min(1e-3)[:, None, None, None]
    return pooled.flatten(1).numpy()

"""Features of a store's clips that need no download: words, log-mel bands, oriented edges of frames.

`ENCODERS` has one function a modality; each turns a row into a sequence of vectors, or None where
the row lacks the modality. They look at one row alone, so that a row's features depend on nothing
else; standardising comes later, with the training split's statistics.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from finetune.fusion.features import FeatureError, FeatureSet, Sequences, Split, check_labels, cleaned
from finetune.fusion.settings import ExtractSettings
from finetune.objective import check_weights
from pipelines import media
from pipelines.sample import SPLITS, Row
from pipelines.store import StoreReader

SAMPLING_RATE = 16_000
WINDOW = 1024  # samples of a spectrum, 64 ms: enough to tell the harmonics of a voice apart
QUIETEST = 1e-6  # power below which there is silence
ORIENTATIONS = 6  # directions of edges, over half a turn
# Chinese, Japanese and Korean characters are words by themselves; other words are runs of letters.
WORD = re.compile(
    r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W_](?:[^\W_\u3040-\u30ff\u3400-\u9fff]|['’])*"
)


def words(row: Row, settings: ExtractSettings) -> np.ndarray | None:
    """A vector for each word of the transcript, (words, word_dimensions)."""
    found = WORD.findall((row["text"] or "").lower())
    return np.stack([word_vector(word, settings.word_dimensions) for word in found]) if found else None


@lru_cache(maxsize=100_000)
def word_vector(word: str, dimensions: int) -> np.ndarray:
    """A fixed vector of a word, near those of words spelled alike: (dimensions,), length 1.

    The sum of random vectors drawn from a hash of the word and of its runs of three letters, so
    that no vocabulary is kept and unseen forms of a word are near the seen one.
    """
    marked = f"<{word}>"
    spelling = [_drawn(f"#{marked[start : start + 3]}", dimensions) for start in range(len(marked) - 2)]
    # Each half has about the same length: the word itself, and how it is spelled.
    total = _drawn(word, dimensions) + np.sum(spelling, axis=0) / np.sqrt(len(spelling))
    return (total / np.linalg.norm(total)).astype(np.float32)


def _drawn(piece: str, dimensions: int) -> np.ndarray:
    seed = int.from_bytes(hashlib.sha256(piece.encode()).digest()[:8], "big")
    return np.random.default_rng(seed).standard_normal(dimensions)


def log_mel(row: Row, settings: ExtractSettings) -> np.ndarray | None:
    """The logarithm of the sound's power in mel bands, (spectra, mel_bands)."""
    if row["audio"] is None:
        return None
    samples = media.read_audio(row["audio"]["bytes"], sampling_rate=SAMPLING_RATE)
    return spectra(
        samples[: int(settings.max_duration_s * SAMPLING_RATE)], settings.mel_bands, settings.audio_fps
    )


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


def edges(row: Row, settings: ExtractSettings) -> np.ndarray | None:
    """How strong edges of each direction are in each cell of the frames, (frames, dimensions)."""
    if row["video"] is None:
        return None
    clip = media.read_video(row["video"]["bytes"], fps=settings.video_fps, max_side=2 * settings.frame_px)
    frames = clip.frames[: max(1, int(settings.max_duration_s * settings.video_fps))]
    return oriented_edges(frames, settings.frame_px, settings.cells)


def oriented_edges(frames: np.ndarray, side_px: int, cells: int) -> np.ndarray:
    """Histograms of edge directions over a grid, as in HOG, with the cells' brightness.

    Args:
        frames: uint8 RGB (F, H, W, 3); the square in their middle is looked at.
        side_px: The side that it is scaled to.
        cells: Cells a side.

    Returns:
        (F, cells² × (ORIENTATIONS + 1)), edges relative to the frame's own strength.
    """
    grey = torch.from_numpy(frames).float().mean(-1)[:, None] / 255  # (F, 1, H, W)
    side = min(grey.shape[-2:])
    top, left = (grey.shape[-2] - side) // 2, (grey.shape[-1] - side) // 2
    square = grey[:, :, top : top + side, left : left + side]
    square = torch.nn.functional.interpolate(square, (side_px, side_px), mode="bilinear", antialias=True)[
        :, 0
    ]
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


Encoder = Callable[[Row, ExtractSettings], np.ndarray | None]
ENCODERS: dict[str, Encoder] = {"text": words, "audio": log_mel, "video": edges}


def from_store(
    directory: str | Path, modalities: tuple[str, ...], settings: ExtractSettings, scale: str | None = None
) -> tuple[FeatureSet, list[dict[str, Any]]]:
    """Make the features of a store: all rows of train, the originals of valid and test.

    Args:
        directory: The store.
        modalities: Which to make features of.
        settings: How.
        scale: The labels' scale; None takes the store's.

    Returns:
        The features, and for each row whose media cannot be read its failure.

    Raises:
        FeatureError: If scales are mixed, labels are out of the scale, or a split is empty.
        finetune.objective.WeightError: If a training row has no usable weight.
    """
    reader = StoreReader(directory)
    table = reader.table.select(["id", "kind", "split", "scale", "weight"]).to_pylist()
    chosen = [row for row in table if row["split"] == "train" or row["kind"] == "original"]
    scales = {row["scale"] for row in chosen}
    if len(scales) > 1 and scale is None:
        raise FeatureError(
            f"{directory}: rows have the scales {', '.join(sorted(scales))}; wants one, or fusion.scale"
        )
    training = [row for row in chosen if row["split"] == "train"]
    check_weights([row["id"] for row in training], [row["weight"] for row in training])
    rows: dict[str, list[_Extracted]] = {split: [] for split in SPLITS}
    failures: list[dict[str, Any]] = []
    for row in _progress(reader.rows(row["id"] for row in chosen), len(chosen)):
        try:
            rows[row["split"]].append(_extracted(row, modalities, settings))
        except media.MediaError as error:
            failures.append(
                {"id": row["id"], "stage": "fusion", "error": "MediaError", "message": str(error)}
            )
    splits = {split: _stacked(found, modalities) for split, found in rows.items()}
    scale = scale or (scales or {"mosi"}).pop()
    for name, split in splits.items():
        check_labels(f"{directory}: {name}", split, scale)
    return cleaned(splits, scale), failures


@dataclass(frozen=True)
class _Extracted:
    row: Row
    features: dict[str, np.ndarray | None]


def _extracted(row: Row, modalities: tuple[str, ...], settings: ExtractSettings) -> _Extracted:
    features = {name: ENCODERS[name](row, settings) for name in modalities}
    kept = ("id", "label", "weight", *(f"label_{name}" for name in modalities))
    return _Extracted({key: row[key] for key in kept}, features)


def _stacked(found: list[_Extracted], modalities: tuple[str, ...]) -> Split:
    def column(key: str) -> np.ndarray:
        values = [np.nan if each.row[key] is None else each.row[key] for each in found]
        return np.array(values, dtype=np.float32)

    return Split(
        ids=[each.row["id"] for each in found],
        features={name: padded([each.features[name] for each in found]) for name in modalities},
        labels=column("label"),
        unimodal={name: column(f"label_{name}") for name in modalities},
        weights=column("weight"),
    )


def padded(sequences: list[np.ndarray | None]) -> Sequences:
    """Sequences (T_i, d) of one d, None for an empty one, as one array with its mask."""
    present = [sequence for sequence in sequences if sequence is not None]
    steps = max((len(sequence) for sequence in present), default=1)
    dimensions = present[0].shape[1] if present else 1
    values = np.zeros((len(sequences), steps, dimensions), dtype=np.float32)
    mask = np.zeros((len(sequences), steps), dtype=bool)
    for index, sequence in enumerate(sequences):
        if sequence is not None:
            values[index, : len(sequence)] = sequence
            mask[index, : len(sequence)] = True
    return Sequences(values=values, mask=mask)


def _progress(rows: Iterator[Row], total: int) -> Iterator[Row]:
    from tqdm import tqdm

    return iter(tqdm(rows, total=total, desc="features", unit="clip", disable=None))

"""Rows as inputs in which frozen towers have done their part already, once for all epochs and runs.

`FrozenTowers` stands in the place of a `ChatEncoder`. Where the cache has what the towers make of a row's
media, nothing is decoded and no tower is asked; else they are, and the answer is kept. What the towers
make of a clip depends on that clip alone, so the inputs give what patches and spectrograms would.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import TrainerCallback

from finetune import token_budget, towers
from finetune.chats import Picture, Sound
from finetune.inputs import Encoded, RowEncoder
from finetune.tower_cache import Entry, TowerCache
from pipelines.provenance import folder_digest, versions

if TYPE_CHECKING:
    from finetune.chat_encoder import ChatEncoder
    from finetune.settings import FinetuneConfig
    from pipelines.sample import Row

# A new version may decode or process a clip otherwise.
PACKAGES = ("transformers", "torchvision", "av", "decord2")


class FrozenTowers:
    """Makes rows into inputs with `seen` and `heard` in them.

    Args:
        encoder: Makes what the towers take.
        model: The model, its towers frozen.
        cache: Keeps what they make of it.
    """

    def __init__(self, encoder: ChatEncoder, model: Any, cache: TowerCache) -> None:
        self.encoder, self.model, self.cache = encoder, model, cache
        self.processor = encoder.processor

    def __call__(self, row: Row) -> Encoded:
        """Encode a row.

        Raises:
            InputError: As the encoder does.
        """
        video = self._entry("video", row, self._look)
        audio = self._entry("audio", row, self._listen)
        picture = None if video is None else Picture(None, video["grid"], float(video["fps"]))
        sound = None if audio is None else _unheard(int(audio["frames"]))
        encoded = self.encoder.asked(row, picture, sound)
        if token_budget.excess(self.encoder.budget, encoded) > 0:
            return self._shortened(row)
        return _with(
            encoded,
            None if video is None else video["features"],
            None if audio is None else audio["features"],
        )

    def _entry(self, kind: str, row: Row, ask: Callable[[Row], Entry]) -> Entry | None:
        """What a tower makes of a row's medium; None where the row has none or it is not shown."""
        if row[kind] is None or kind not in self.encoder.modalities:
            return None
        key = self.cache.key(kind, row[kind]["bytes"])
        found = self.cache.get(key)
        return self.cache.put(key, ask(row)) if found is None else found

    def _look(self, row: Row) -> Entry:
        clip = self.encoder.decoded(row | {"audio": None}, self.encoder.budget.max_frames)
        assert clip.frames is not None
        picture = self.encoder.picture(clip.frames, clip.fps, self.encoder.max_pixels)
        features = self._seen(picture.patches, picture.grid)
        return {
            "features": features,
            "grid": picture.grid,
            "fps": torch.tensor(picture.fps, dtype=torch.float64),
        }

    def _listen(self, row: Row) -> Entry:
        clip = self.encoder.decoded(row | {"video": None}, self.encoder.budget.max_frames)
        assert clip.samples is not None
        sound = self.encoder.sound(clip.samples)
        return {"features": self._heard(sound.mel, sound.mask), "frames": torch.tensor(sound.frames)}

    def _shortened(self, row: Row) -> Encoded:
        """A row over the token budget: how much of its clip is shown depends on its text, and is not kept."""
        plain = self.encoder(row)
        seen = heard = None
        if plain.video_grid_thw is not None:
            seen = self._seen(plain.pixel_values_videos, plain.video_grid_thw).cpu()
        if plain.input_features is not None:
            heard = self._heard(plain.input_features, plain.feature_attention_mask).cpu()
        return _with(plain, seen, heard)

    def _seen(self, patches: torch.Tensor | None, grid: torch.Tensor) -> torch.Tensor:
        assert patches is not None
        with _at_rest(self.model) as device:
            return towers.see(self.model, patches.to(device), grid[None].to(device))[0]

    def _heard(self, mel: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        assert mask is not None
        with _at_rest(self.model) as device:
            mel = mel.to(device, self.model.dtype)
            return towers.hear(self.model, mel[None], mask[None].to(device))[0]


def frozen_towers(encoder: ChatEncoder, model: Any, config: FinetuneConfig, out: Path) -> RowEncoder:
    """What makes rows into inputs as `config.tower_cache` says: `encoder` itself where nothing is kept.

    Args:
        encoder: The model's.
        model: The model of transformers that is trained.
        config: The run's settings.
        out: The run's folder.
    """
    if config.tower_cache == "none" or not config.towers_are_frozen:
        return encoder
    folder = out / "towers" if config.tower_cache == "auto" else Path(config.tower_cache)
    return FrozenTowers(encoder, model, TowerCache(folder, identity(encoder, model, config)))


def identity(encoder: ChatEncoder, model: Any, config: FinetuneConfig) -> dict[str, Any]:
    """What the towers' outputs depend on beside a clip: the model, and how much of a clip it is shown."""
    from finetune.omni import source_of

    source = Path(source_of(config.model))
    commit = getattr(model.config, "_commit_hash", None)
    budget = asdict(encoder.budget)
    del budget["max_tokens"]  # a row over it is not kept
    return {
        "weights": folder_digest(source) if source.is_dir() else [config.model, config.revision, commit],
        "dtype": str(model.dtype),
        "budget": budget,
        "max_pixels": encoder.max_pixels,
        "versions": versions(PACKAGES),
    }


class KeepTowers(TrainerCallback):
    """Writes down at each epoch's end what the towers were asked for, so that other ranks find it too."""

    def __init__(self, encoder: RowEncoder) -> None:
        self.encoder = encoder

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        flush(self.encoder)


def flush(encoder: RowEncoder) -> None:
    """Write down what is not yet on disk."""
    if isinstance(encoder, FrozenTowers):
        encoder.cache.flush()


@contextmanager
def _at_rest(model: Any) -> Iterator[torch.device]:
    """The model as it is outside of training, and its device."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield model.device
    finally:
        model.train(training)


def _unheard(frames: int) -> Sound:
    """A sound of so many frames that no tower needs to hear."""
    return Sound(torch.empty(0, frames), frames)


def _with(encoded: Encoded, seen: torch.Tensor | None, heard: torch.Tensor | None) -> Encoded:
    return replace(
        encoded,
        pixel_values_videos=None,
        video_grid_thw=None,
        input_features=None,
        feature_attention_mask=None,
        seen=seen,
        heard=heard,
    )

"""Rows as inputs in which frozen towers have done their part already, once for all epochs and runs.

`FrozenTowers` stands in the place of a `ChatEncoder`. Where the cache has what the towers make of a row's
media, nothing is decoded and no tower is asked; else they are, and the answer is kept. What the towers
make of a clip depends on that clip alone, so the inputs give what patches and spectrograms would.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import TrainerCallback

from finetune.inputs import token_budget
from finetune.inputs.batch import Encoded, RowEncoder, padded
from finetune.inputs.chat_encoder import side_by_side
from finetune.inputs.chat_formats import Picture, Sound
from finetune.model import towers
from finetune.model.parts import TOWERS, part
from finetune.tower_cache.cache import Entry, TowerCache
from pipelines.provenance import folder_digest, versions

if TYPE_CHECKING:
    from finetune.inputs.chat_encoder import ChatEncoder, Clip
    from finetune.settings import FinetuneConfig
    from pipelines.row import Row

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
        return self.many([row])[0]

    def many(self, rows: Sequence[Row]) -> list[Encoded]:
        """Encode rows; the towers are asked once about all clips that are not kept yet."""
        keys = [self._keys(row) for row in rows]
        media = {key: (kind, row) for row, own in zip(rows, keys, strict=True) for kind, key in own.items()}
        known = {key: self.cache.get(key) for key in media}
        missing = [key for key, entry in known.items() if entry is None]
        clips = side_by_side(self._decoded, [media[key] for key in missing])
        for key, entry in zip(missing, self._ask(clips), strict=True):
            known[key] = self.cache.put(key, entry)
        return [
            self._encoded(row, {kind: known[key] for kind, key in own.items()})
            for row, own in zip(rows, keys, strict=True)
        ]

    def _keys(self, row: Row) -> dict[str, str]:
        """The cache's keys of the media that are shown of a row, by kind."""
        shown = [kind for kind in ("video", "audio") if row[kind] and kind in self.encoder.modalities]
        return {kind: self.cache.key(kind, row[kind]["bytes"]) for kind in shown}

    def _encoded(self, row: Row, entries: dict[str, Any]) -> Encoded:
        video, audio = entries.get("video"), entries.get("audio")
        picture = None if video is None else Picture(None, video["grid"], float(video["fps"]))
        # Of a sound that no tower needs to hear, the number of its frames is told.
        frames = 0 if audio is None else int(audio["frames"])
        sound = None if audio is None else Sound(torch.empty(0, frames), frames)
        encoded = self.encoder.asked(row, picture, sound)
        if token_budget.excess(self.encoder.budget, encoded) > 0:
            return self._shortened(row)
        return instead_of_media(
            encoded,
            None if video is None else video["features"],
            None if audio is None else audio["features"],
        )

    def _ask(self, clips: Sequence[Clip]) -> list[Entry]:
        """What the towers make of clips with one medium each, in their order."""
        taken = [self._taken(clip) for clip in clips]
        pictures = [one for one in taken if isinstance(one, Picture)]
        sounds = [one for one in taken if isinstance(one, Sound)]
        seen, heard = iter(self._seen(pictures)), iter(self._heard(sounds))
        return [
            {"features": next(seen), "grid": one.grid, "fps": torch.tensor(one.fps, dtype=torch.float64)}
            if isinstance(one, Picture)
            else {"features": next(heard), "frames": torch.tensor(one.frames)}
            for one in taken
        ]

    def _decoded(self, medium: tuple[str, Row]) -> Clip:
        """A medium of a row, decoded."""
        kind, row = medium
        other = {"video": "audio", "audio": "video"}[kind]
        return self.encoder.decoded(row | {other: None})

    def _taken(self, clip: Clip) -> Picture | Sound:
        """A medium as its tower takes it."""
        if clip.frames is not None:
            return self.encoder.picture(clip.frames, clip.fps, self.encoder.max_pixels)
        assert clip.samples is not None
        return self.encoder.sound(clip.samples)

    def _shortened(self, row: Row) -> Encoded:
        """A row over the token budget: how much of its clip is shown depends on its text, and is not kept."""
        plain = self.encoder(row)
        seen = heard = None
        if plain.pixel_values_videos is not None and plain.video_grid_thw is not None:
            seen = self._seen([Picture(plain.pixel_values_videos, plain.video_grid_thw, 0.0)])[0]
        if plain.input_features is not None and plain.feature_attention_mask is not None:
            frames = int(plain.feature_attention_mask.sum())
            heard = self._heard([Sound(plain.input_features, frames)])[0]
        return instead_of_media(plain, seen, heard)

    def _seen(self, pictures: Sequence[Picture]) -> list[torch.Tensor]:
        """One after the other, so that the tower never takes more than the largest needs."""
        seen = []
        with _at_rest(self.model) as device:
            for picture in pictures:
                assert picture.patches is not None
                seen += towers.see(self.model, picture.patches.to(device), picture.grid[None].to(device))
        return [clip.cpu() for clip in seen]

    def _heard(self, sounds: Sequence[Sound]) -> list[torch.Tensor]:
        if not sounds:
            return []
        mel, mask = padded([sound.mel for sound in sounds]), padded([sound.mask for sound in sounds])
        with _at_rest(self.model) as device:
            mel = mel.to(device, self.model.dtype)
            return [clip.cpu() for clip in towers.hear(self.model, mel, mask.to(device))]


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
    from finetune.model.loading import source_of

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
    """The towers as they are outside of training, and the model's device."""
    asked = [tower for name in TOWERS if (tower := part(model, name)) is not None and tower.training]
    for tower in asked:
        tower.eval()
    try:
        with torch.no_grad():
            yield model.device
    finally:
        for tower in asked:
            tower.train()


def instead_of_media(encoded: Encoded, seen: torch.Tensor | None, heard: torch.Tensor | None) -> Encoded:
    """A row with what towers made of its picture and sound in place of patches and spectrogram."""
    return replace(
        encoded,
        pixel_values_videos=None,
        video_grid_thw=None,
        input_features=None,
        feature_attention_mask=None,
        seen=seen,
        heard=heard,
    )

"""Rows as inputs that contain the outputs of frozen towers, computed once for all epochs and runs.

`FrozenTowers` replaces a `ChatEncoder`. Where the cache has the towers' outputs for a row's media, nothing is
decoded and no tower is run; otherwise they are, and the outputs are cached. The output for a clip depends on
that clip alone, to the bit, so it does not matter when it was computed: a run that lost its pending outputs
when it was killed ends like one that kept them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import TrainerCallback

from finetune.inputs import token_budget
from finetune.inputs.batch import Encoded, RowEncoder
from finetune.inputs.chat_encoder import ChatEncoder, Clip, decode_in_threads
from finetune.inputs.chat_formats import AudioInput, VideoInput
from finetune.model import towers
from finetune.model.loading import source_of
from finetune.model.parts import TOWERS, part
from finetune.settings import FinetuneConfig
from finetune.tower_cache.cache import Entry, TowerCache
from pipelines.provenance import folder_digest, versions
from pipelines.row import Row

# A new version may decode or process a clip differently.
PACKAGES = ("transformers", "torchvision", "av", "decord2")


class FrozenTowers:
    """Makes rows into inputs with `video_embeds` and `audio_embeds`.

    Args:
        encoder: Makes the towers' inputs.
        model: The model, its towers frozen.
        cache: Stores the towers' outputs.
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
        """Encode rows; the towers run on each clip that is not cached yet."""
        keys = [self._keys(row) for row in rows]
        media = {key: (kind, row) for row, own in zip(rows, keys, strict=True) for kind, key in own.items()}
        entries = {key: self.cache.get(key) for key in media}
        missing = [key for key, entry in entries.items() if entry is None]
        clips = decode_in_threads(self._decoded, [media[key] for key in missing])
        for key, output in zip(missing, self._outputs(clips), strict=True):
            entries[key] = self.cache.put(key, output)
        return [
            self._encoded(row, {kind: entries[key] for kind, key in own.items()})
            for row, own in zip(rows, keys, strict=True)
        ]

    def _keys(self, row: Row) -> dict[str, str]:
        """The cache's keys of a row's media, by kind."""
        shown = [kind for kind in ("video", "audio") if row[kind] and kind in self.encoder.modalities]
        return {kind: self.cache.key(kind, row[kind]["bytes"]) for kind in shown}

    def _encoded(self, row: Row, entries: dict[str, Any]) -> Encoded:
        video, audio = entries.get("video"), entries.get("audio")
        video_input = None if video is None else VideoInput(None, video["grid"], float(video["fps"]))
        # The prompt depends on the number of mel frames alone.
        frames = 0 if audio is None else int(audio["frames"])
        audio_input = None if audio is None else AudioInput(torch.empty(0, frames), frames)
        encoded = self.encoder.encode_inputs(row, video_input, audio_input)
        if token_budget.excess(self.encoder.budget, encoded) > 0:
            return self._shortened(row)
        return with_embeds(encoded, video and video["features"], audio and audio["features"])

    def _outputs(self, clips: Sequence[Clip]) -> list[Entry]:
        """The towers' outputs for clips with one medium each, in their order."""
        inputs = [self._input(clip) for clip in clips]
        video = iter(self._encode_video([one for one in inputs if isinstance(one, VideoInput)]))
        audio = iter(self._encode_audio([one for one in inputs if isinstance(one, AudioInput)]))
        return [
            {"features": next(video), "grid": one.grid, "fps": torch.tensor(one.fps, dtype=torch.float64)}
            if isinstance(one, VideoInput)
            else {"features": next(audio), "frames": torch.tensor(one.frames)}
            for one in inputs
        ]

    def _decoded(self, medium: tuple[str, Row]) -> Clip:
        """A medium of a row, decoded."""
        kind, row = medium
        other = {"video": "audio", "audio": "video"}[kind]
        return self.encoder.decoded(row | {other: None})

    def _input(self, clip: Clip) -> VideoInput | AudioInput:
        if clip.frames is not None:
            return self.encoder.video_input(clip.frames, clip.fps, self.encoder.max_pixels)
        assert clip.samples is not None
        return self.encoder.audio_input(clip.samples)

    def _shortened(self, row: Row) -> Encoded:
        """A row over the token budget: how much of its clip fits depends on its text, so it is not cached."""
        plain = self.encoder(row)
        video = audio = None
        if plain.pixel_values_videos is not None and plain.video_grid_thw is not None:
            video = self._encode_video([VideoInput(plain.pixel_values_videos, plain.video_grid_thw, 0.0)])[0]
        if plain.input_features is not None and plain.feature_attention_mask is not None:
            frames = int(plain.feature_attention_mask.sum())
            audio = self._encode_audio([AudioInput(plain.input_features, frames)])[0]
        return with_embeds(plain, video, audio)

    def _encode_video(self, inputs: Sequence[VideoInput]) -> list[Tensor]:
        """One clip after the other: the tower never needs more memory than for the largest."""
        embeds = []
        with _in_evaluation(self.model) as device:
            for one in inputs:
                assert one.patches is not None
                patches, grid = one.patches.to(device), one.grid[None].to(device)
                embeds += towers.encode_video(self.model, patches, grid)
        return [clip.cpu() for clip in embeds]

    def _encode_audio(self, inputs: Sequence[AudioInput]) -> list[Tensor]:
        """One clip after the other: in a batch, the last bits of a clip's output depend on the others."""
        embeds = []
        with _in_evaluation(self.model) as device:
            for one in inputs:
                mel, mask = one.mel[None].to(device, self.model.dtype), one.mask[None].to(device)
                embeds += towers.encode_audio(self.model, mel, mask)
        return [clip.cpu() for clip in embeds]


def frozen_towers(encoder: ChatEncoder, model: Any, config: FinetuneConfig, out: Path) -> RowEncoder:
    """The encoder of a run's inputs according to `config.tower_cache`: `encoder` itself without a cache."""
    if config.tower_cache == "none" or not config.towers_are_frozen:
        return encoder
    folder = out / "towers" if config.tower_cache == "auto" else Path(config.tower_cache)
    return FrozenTowers(encoder, model, TowerCache(folder, identity(encoder, model, config)))


def identity(encoder: ChatEncoder, model: Any, config: FinetuneConfig) -> dict[str, Any]:
    """What the towers' outputs depend on besides a clip: the model, and how much of a clip it is shown."""
    source = Path(source_of(config.model))
    commit = getattr(model.config, "_commit_hash", None)
    budget = asdict(encoder.budget)
    del budget["max_tokens"]  # a row over it is not cached
    return {
        "weights": folder_digest(source) if source.is_dir() else [config.model, config.revision, commit],
        "dtype": str(model.dtype),
        "budget": budget,
        "max_pixels": encoder.max_pixels,
        "versions": versions(PACKAGES),
    }


class KeepTowers(TrainerCallback):
    """Writes new outputs to disk at each epoch's end, so that other ranks find them too."""

    def __init__(self, encoder: RowEncoder) -> None:
        self.encoder = encoder

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        flush(self.encoder)


def flush(encoder: RowEncoder) -> None:
    """Write outputs that are not yet on disk."""
    if isinstance(encoder, FrozenTowers):
        encoder.cache.flush()


@contextmanager
def _in_evaluation(model: Any) -> Iterator[torch.device]:
    """The towers in evaluation mode, without gradients; gives the model's device."""
    trained = [tower for name in TOWERS if (tower := part(model, name)) is not None and tower.training]
    for tower in trained:
        tower.eval()
    try:
        with torch.no_grad():
            yield model.device
    finally:
        for tower in trained:
            tower.train()


def with_embeds(encoded: Encoded, video_embeds: Tensor | None, audio_embeds: Tensor | None) -> Encoded:
    """A row with the towers' outputs in place of patches and spectrogram."""
    return replace(
        encoded,
        pixel_values_videos=None,
        video_grid_thw=None,
        input_features=None,
        feature_attention_mask=None,
        video_embeds=video_embeds,
        audio_embeds=audio_embeds,
    )

"""Which variants the clips of a store get, and what each depends on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from augment.audio import voice_sources
from augment.audio.settings import AudioSettings
from augment.audio.voice_sources import CORPUS
from augment.checkpoints import STABLE_DIFFUSION, VOICE_CONVERTER
from augment.classic.settings import ClassicSettings, Track
from augment.settings import AugmentConfig
from augment.video.settings import VideoSettings
from pipelines import provenance
from pipelines.row import digest, row_seed, variant_id
from pipelines.runner import Task, task_key
from pipelines.store import StoreReader

# What `model: embedded` stands for.
EMBEDDED = {VideoSettings: STABLE_DIFFUSION, AudioSettings: VOICE_CONVERTER}


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One way of making a variant."""

    index: int
    """Of its source in the store that is read."""
    kind: str
    tracks: tuple[Track, ...]
    """What is replaced, the picture first."""
    variant: int
    """Which of the clip's variants of the kind."""
    number: int
    """How often the variant had been made before."""
    seed: int
    strength: float
    """Factor on the strength of the edit."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One variant of a training clip."""

    index: int
    """Of its source in the store that is read."""
    source_id: str
    kind: str
    tracks: tuple[Track, ...]
    """What is replaced, the picture first."""
    number: int
    inputs: Any
    settings: Any
    config: AugmentConfig
    seed: int
    """The run's."""

    @property
    def id(self) -> str:
        """Of its row."""
        return variant_id(self.source_id, self.kind, self.number)

    def attempt(self, number: int) -> Attempt:
        """How it is made for the first time, 0, and how again."""
        return Attempt(
            index=self.index,
            kind=self.kind,
            tracks=self.tracks,
            variant=self.number,
            number=number,
            seed=row_seed(self.seed, f"{self.id}~{number}" if number else self.id),
            strength=self.config.strength(self.kind, number),
        )

    def told(self, number: int) -> dict[str, Any]:
        """What is told of an attempt in the rows of later ones."""
        attempt = self.attempt(number)
        return {"attempt": number, "seed": attempt.seed, "strength": attempt.strength}

    def task(self, number: int) -> Task:
        """The task of an attempt."""
        attempt = self.attempt(number)
        again = {"again": [number, attempt.strength]} if number else {}
        key = task_key(self.id, self.inputs, self.settings | again, self.seed)
        return Task(self.id, key, attempt, digest(self.source_id))


def plan(reader: StoreReader, config: AugmentConfig, seed: int) -> list[Variant]:
    """The variants that the training clips of a store get, clip by clip."""
    variants = []
    voices = _voices(config.audio, reader) if config.converts else None
    for index, row in enumerate(reader.table.to_pylist()):
        if row["split"] != "train" or row["kind"] != "original":
            continue
        for kind, count in config.variants().items():
            wanted = config.replaces(kind)
            replaced = tuple(track for track in wanted if row[f"has_{track}"])
            # A classic variant replaces what a clip has; `both` is a new picture and a new voice together.
            if replaced == wanted or (replaced and kind == "classic"):
                sections = ("classic",) if kind == "classic" else replaced
                variants += [
                    Variant(
                        index=index,
                        source_id=row["id"],
                        kind=kind,
                        tracks=replaced,
                        number=number,
                        inputs=[row["generator"], voices if "audio" in sections else None],
                        settings={section: settings(getattr(config, section)) for section in sections},
                        config=config,
                        seed=seed,
                    )
                    for number in range(count)
                ]
    return variants


def _voices(settings: AudioSettings, reader: StoreReader) -> str:
    """A digest of the voices that a target is drawn from: with another choice, another one is drawn."""
    if settings.voices != CORPUS:
        return voice_sources.contents(settings)
    table = reader.table
    speaking = pc.and_(pc.equal(table["split"], "train"), table["has_audio"])
    return digest(table.filter(speaking).select(["id", "group", "generator"]).to_pylist())


@cache
def settings(section: VideoSettings | AudioSettings | ClassicSettings) -> dict[str, Any]:
    """The settings of a section that one of its variants depends on, the weights' contents among them."""
    if isinstance(section, ClassicSettings):
        return section.used()
    embedded = str(EMBEDDED[type(section)])
    models = [embedded if model == "embedded" else model for model in section.models()]
    return section.used() | {"weights": _contents(models)}


def _contents(models: list[str]) -> list[str | None]:
    """A digest of each model's folder; None of one from the Hub."""
    return [provenance.folder_digest(Path(each)) if Path(each).is_dir() else None for each in models]

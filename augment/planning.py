"""Which variants the clips of a store get, and what each of them depends on."""

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
from augment.video.methods import METHODS
from augment.video.settings import VideoSettings
from pipelines import provenance
from pipelines.errors import UsageError, listed
from pipelines.row import digest, row_seed, variant_id
from pipelines.runner import Task, task_key
from pipelines.store import StoreReader

# The checkpoints that `model: embedded` stands for.
EMBEDDED = {VideoSettings: STABLE_DIFFUSION, AudioSettings: VOICE_CONVERTER}
# The corpora of drawn heads, as the embedded video model was trained on.
DRAWN = ("puppets",)


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One variant of a training clip."""

    index: int  # of its source in the store that is read
    source_id: str
    kind: str
    tracks: tuple[Track, ...]  # what is replaced, video first
    number: int  # among the clip's variants of this kind
    inputs: Any
    settings: Any
    config: AugmentConfig
    run_seed: int

    @property
    def id(self) -> str:
        """The id of its row."""
        return variant_id(self.source_id, self.kind, self.number)


@dataclass(frozen=True)
class Attempt:
    """One attempt at making a variant; each has its own seed, and later ones may be weaker edits."""

    variant: Variant
    number: int  # from 0

    @property
    def seed(self) -> int:
        """The seed of everything that is drawn for it."""
        row_id = self.variant.id
        return row_seed(self.variant.run_seed, f"{row_id}~{self.number}" if self.number else row_id)

    @property
    def strength(self) -> float:
        """Factor on the strength of the edit, in (0, 1]."""
        return self.variant.config.strength(self.variant.kind, self.number)

    def record(self) -> dict[str, Any]:
        """What the row stores about it when another attempt takes its place."""
        return {"attempt": self.number, "seed": self.seed, "strength": self.strength}

    def task(self) -> Task:
        """The task that makes it. All tasks of a clip share a process, which decodes the clip once."""
        variant = self.variant
        again = {"again": [self.number, self.strength]} if self.number else {}
        key = task_key(variant.id, variant.inputs, variant.settings | again, variant.run_seed)
        return Task(variant.id, key, self, digest(variant.source_id))


def check_embedded(reader: StoreReader, config: AugmentConfig) -> None:
    """Refuse clips that the embedded video model would ruin, unless the settings allow it.

    Raises:
        UsageError: If it is to edit clips of a corpus that is not drawn.
    """
    video = config.video
    if video.model != "embedded" or video.allow_embedded or not (video.variants or config.both):
        return
    rows = reader.table.select(["split", "kind", "corpus", "has_video", "has_audio"]).to_pylist()
    edited = [
        str(row["corpus"])
        for row in rows
        if row["split"] == "train" and row["kind"] == "original" and row["has_video"]
        if video.variants or row["has_audio"]  # `both` needs both tracks
    ]
    filmed = [corpus for corpus in edited if corpus not in DRAWN]
    if filmed:
        corpora = listed(sorted(set(filmed)))
        raise UsageError(
            "augment.video.model: got embedded, which knows drawn heads only and ruins faces of people, and"
            f" {len(filmed)} of {len(edited)} training clips are not drawn (corpus {corpora}); name a"
            f" checkpoint such as {METHODS[video.method].checkpoint}, make no such variants"
            " (augment.video.variants 0, augment.both 0), or give --augment.video.allow_embedded true to edit"
            " them all the same"
        )


def plan(reader: StoreReader, config: AugmentConfig, seed: int) -> list[Variant]:
    """The variants of the training clips of a store, clip by clip."""
    variants = []
    voices = _voices(config.audio, reader) if config.converts else None
    for index, row in enumerate(reader.table.to_pylist()):
        if row["split"] != "train" or row["kind"] != "original":
            continue
        for kind, count in config.variants().items():
            tracks = config.replaces(kind)
            available = tuple(track for track in tracks if row[f"has_{track}"])
            # A classic variant replaces the tracks that a clip has; `both` needs both of them.
            if available == tracks or (available and kind == "classic"):
                sections = ("classic",) if kind == "classic" else available
                variants += [
                    Variant(
                        index=index,
                        source_id=row["id"],
                        kind=kind,
                        tracks=available,
                        number=number,
                        inputs=[row["generator"], voices if "audio" in sections else None],
                        settings={section: settings(getattr(config, section)) for section in sections},
                        config=config,
                        run_seed=seed,
                    )
                    for number in range(count)
                ]
    return variants


def _voices(settings: AudioSettings, reader: StoreReader) -> str:
    """A digest of the target voices: if they change, other targets are drawn."""
    if settings.voices != CORPUS:
        return voice_sources.contents(settings)
    table = reader.table
    speaking = pc.and_(pc.equal(table["split"], "train"), table["has_audio"])
    return digest(table.filter(speaking).select(["id", "group", "generator"]).to_pylist())


@cache
def settings(section: VideoSettings | AudioSettings | ClassicSettings) -> dict[str, Any]:
    """What a variant depends on in a section of the settings, including the contents of local weights."""
    if isinstance(section, ClassicSettings):
        return section.used()
    folders = [EMBEDDED[type(section)] if model == "embedded" else Path(model) for model in section.models()]
    weights = [provenance.weights_digest(folder) if folder.is_dir() else None for folder in folders]
    return section.used() | {"weights": weights}

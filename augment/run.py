"""The stage: a store of originals in, the same store with variants of its training clips out.

Only the split `train` is augmented. A variant keeps its original's words, labels, split and group,
and replaces its picture (`video`), its sound (`audio`), or both. `python -m augment --help` lists
the settings.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow
import pyarrow.compute as pc

from augment import audio_variants, video_variants
from augment.classic_variants import ClassicVariants
from augment.settings import AudioSettings, AugmentConfig, ClassicSettings, VideoSettings
from augment.voices import CORPUS, VoiceBank
from pipelines import provenance
from pipelines.errors import UsageError
from pipelines.runner import Stage, Work, work_key
from pipelines.sample import MEDIA, Row, digest, features, media, row_seed, variant_id
from pipelines.store import StoreReader, committed_generation

if TYPE_CHECKING:
    from pipelines.settings import Invocation

# What `model: embedded` stands for.
EMBEDDED = {VideoSettings: video_variants.CHECKPOINT, AudioSettings: audio_variants.CHECKPOINT}
# Which media a kind of variant replaces.
REPLACES = {"video": ("video",), "audio": ("audio",), "both": ("video", "audio"), "classic": ("video",)}


class MakeVariants:
    """Makes one variant of each row; a model is loaded when the first row needs it."""

    def __init__(self, config: AugmentConfig, bank: VoiceBank, seed: int) -> None:
        from pipelines.device import pick

        self.config, self.bank, self.seed = config, bank, seed
        self.device = pick(config.device)
        _settle(self.device)
        self.versions = provenance.versions()

    def __call__(self, rows: list[Row]) -> list[Row]:
        return [self._variant(row) for row in rows]

    @cached_property
    def _video(self) -> video_variants.VideoVariants:
        return video_variants.VideoVariants(self.config.video, self.device)

    @cached_property
    def _audio(self) -> audio_variants.AudioVariants:
        return audio_variants.AudioVariants(self.config.audio, self.device, self.bank)

    def _maker(self, kind: str, modality: str) -> Callable[[Row, int, int], tuple[bytes, dict[str, Any]]]:
        if kind == "classic":
            return ClassicVariants(self.config.classic)
        return self._video if modality == "video" else self._audio

    def _variant(self, row: Row) -> Row:
        kind, number = row["variant"]
        seed = row_seed(self.seed, variant_id(row["id"], kind, number))
        made: Row = dict.fromkeys(MEDIA)
        details: dict[str, Any] = {"seed": seed, "versions": self.versions}
        for modality in REPLACES[kind]:
            encoded, made_by = self._maker(kind, modality)(row, number, seed)
            made[modality] = media(encoded)
            source = hashlib.sha256(row[modality]["bytes"]).hexdigest()
            details[modality] = made_by | {"source_sha256": source}
        details["method"] = "+".join(details[modality]["method"] for modality in REPLACES[kind])
        return made | {"generator": json.dumps(details, ensure_ascii=False, sort_keys=True)}


def _settle(device: str) -> None:
    """Make results independent of the number of threads, and libraries quiet."""
    import diffusers
    import torch
    import transformers

    if device == "cpu":
        # With more threads, sums are taken in another order and the last bits change. Start more
        # processes instead.
        torch.set_num_threads(1)
    for library in (diffusers, transformers):
        library.utils.logging.disable_progress_bar()
        library.utils.logging.set_verbosity_error()


def plan(reader: StoreReader, config: AugmentConfig, seed: int) -> list[Work]:
    """The variants that the training clips of a store are owed, clip by clip."""
    works = []
    voices = _voices(config.audio, reader)
    for index, row in enumerate(reader.table.to_pylist()):
        if row["split"] != "train" or row["kind"] != "original":
            continue
        for kind, count in config.variants().items():
            if all(row[f"has_{modality}"] for modality in REPLACES[kind]):
                inputs = [row["generator"], voices if "audio" in REPLACES[kind] else None]
                sections = ("classic",) if kind == "classic" else REPLACES[kind]
                settings = {section: _settings(getattr(config, section)) for section in sections}
                for number in range(count):
                    row_id = variant_id(row["id"], kind, number)
                    key = work_key(row_id, inputs, settings, seed)
                    works.append(Work(row_id, key, (index, kind, number), digest(row["id"])))
    return works


def _voices(settings: AudioSettings, reader: StoreReader) -> str:
    """A digest of the voices that a target is drawn from: with another choice, another one is drawn."""
    if settings.voices != CORPUS:
        return provenance.folder_digest(Path(settings.voices))
    table = reader.table
    speaking = pc.and_(pc.equal(table["split"], "train"), table["has_audio"])
    return digest(table.filter(speaking).select(["id", "group", "generator"]).to_pylist())


@cache
def _settings(settings: VideoSettings | AudioSettings | ClassicSettings) -> dict[str, Any]:
    """The settings of a section that one of its variants depends on, the weights' contents among them."""
    if isinstance(settings, ClassicSettings):
        return dataclasses.asdict(settings) | {"variants": None}
    models = [str(EMBEDDED[type(settings)]) if settings.model == "embedded" else settings.model]
    if isinstance(settings, AudioSettings):
        # How many variants there are does not change what one of them is.
        return dataclasses.asdict(settings) | {"variants": None, "weights": _contents(models)}
    if settings.captioner:
        models.append(settings.captioner)
    if settings.method == "animatediff":
        models.append(settings.video_to_video.motion_adapter)
    return settings.used() | {"weights": _contents(models)}


def _contents(models: list[str]) -> list[str | None]:
    """A digest of each model's folder; None of one from the Hub."""
    return [provenance.folder_digest(Path(each)) if Path(each).is_dir() else None for each in models]


def run(invocation: Invocation[AugmentConfig]) -> dict[str, int]:
    """Augment a store.

    Returns:
        Rows per split; empty in all processes but the first.

    Raises:
        StageFailed: If too many variants, or all of them, failed.
    """
    config, reader = invocation.config, StoreReader(invocation.data)
    if invocation.data.resolve() == invocation.out.resolve():
        raise UsageError(f"--out: {invocation.out} is the store that is read; name another folder")
    works = plan(reader, config, invocation.seed)
    schema = features().arrow_schema
    results = pyarrow.schema([schema.field(name) for name in (*MEDIA, "generator")])
    stage = Stage("augment", invocation.out, results, invocation.run_settings(batch_size=1))
    bank = VoiceBank(config.audio, reader)
    stage.perform(
        works,
        lambda work: reader.row(work.payload[0]) | {"variant": work.payload[1:]},
        lambda: MakeVariants(config, bank, invocation.seed),
    )
    if not stage.leads:
        return {}
    settings = provenance.record(
        invocation,
        stage="augment",
        title="Talking-face clips with diffusion-made variants",
        description=(
            f"Originals and variants of the training clips, of which each has up to {config.variants()}."
            " Words and labels of a variant are its original's."
        ),
        inputs=committed_generation(invocation.data),
    )
    counts = stage.commit(works, _rows(reader, works, stage), settings)
    rejected = len(stage.parts.failures(work.key for work in works))
    print(
        f"augment: {len(works)} variants wanted, {len(works) - rejected} made, {rejected} rejected"
        f" (see {invocation.out / 'failures.jsonl'})"
    )
    return counts


def _rows(reader: StoreReader, works: list[Work], stage: Stage) -> Iterator[Row]:
    """Each original with its finished variants behind it."""
    variants: dict[int, list[Work]] = {}
    for work in works:
        variants.setdefault(work.payload[0], []).append(work)
    for index in range(len(reader)):
        source = reader.row(index)
        yield source
        for work in variants.get(index, []):
            if stage.parts.done(work.key):
                _, kind, _ = work.payload
                made = stage.parts.get(work.key)
                replaced = {name: made[name] for name in (*REPLACES[kind], "generator")}
                yield source | replaced | {"id": work.id, "kind": kind}

"""The stage: a store of originals in, the same store with variants of its training clips out.

Only the split `train` is augmented. A variant keeps its original's words, labels, split and group,
and replaces its picture (`video`), its sound (`audio`), or both. `python -m augment --help` lists
the settings.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pyarrow

from augment import attempts, retries
from augment.audio import variants as audio_variants
from augment.audio.voice_bank import VoiceBank
from augment.classic.audio import ClassicSound
from augment.classic.video import ClassicVariants
from augment.planning import Attempt, Variant, plan
from augment.settings import AugmentConfig
from augment.video import variants as video_variants
from pipelines import provenance
from pipelines.device import share
from pipelines.errors import UsageError
from pipelines.row import MEDIA, Row, digest, features, media
from pipelines.runner import Stage, Task
from pipelines.store import StoreReader, committed_generation

if TYPE_CHECKING:
    from pipelines.settings import Invocation

CLASSIC = {"video": ClassicVariants, "audio": ClassicSound}
"""What makes a track of a classic variant."""
States = dict[str, retries.State]
"""Where each variant stands, by its id."""


@dataclass(frozen=True, kw_only=True)
class Making:
    """A variant to be made."""

    row: Row
    """Its source's."""
    attempt: Attempt


class MakeVariants:
    """Makes one variant of each row; a model is loaded when the first row needs it."""

    def __init__(self, config: AugmentConfig, bank: VoiceBank | None) -> None:
        """`bank` has the target voices; None where no variant gets another voice."""
        from pipelines.device import pick

        self.config, self.bank = config, bank
        self.device = pick(config.device)
        _settle(self.device)
        self.versions = provenance.versions()

    def __call__(self, variants: Sequence[Making]) -> list[Row]:
        return [self._variant(each.row, each.attempt) for each in variants]

    @cached_property
    def _video(self) -> video_variants.VideoVariants:
        return video_variants.VideoVariants(self.config.video, self.device)

    @cached_property
    def _audio(self) -> audio_variants.AudioVariants:
        assert self.bank is not None
        return audio_variants.AudioVariants(self.config.audio, self.device, self.bank)

    def _make(self, modality: str, row: Row, attempt: Attempt) -> tuple[bytes, dict[str, Any]]:
        if modality == "audio" and attempt.kind != "classic":
            return self._audio(row, attempt.variant, attempt.seed)
        if attempt.kind == "classic":
            maker: Any = CLASSIC[modality](self.config.classic)
        else:
            maker = self._video
        return maker(row, attempt.variant, attempt.seed, attempt.strength)

    def _variant(self, row: Row, attempt: Attempt) -> Row:
        made: Row = dict.fromkeys(MEDIA)
        details: dict[str, Any] = {"seed": attempt.seed, "versions": self.versions}
        if attempt.number:
            details |= {"attempt": attempt.number, "strength": attempt.strength}
        for modality in attempt.tracks:
            encoded, made_by = self._make(modality, row, attempt)
            made[modality] = media(encoded)
            source = hashlib.sha256(row[modality]["bytes"]).hexdigest()
            details[modality] = made_by | {"source_sha256": source}
        methods = [details[track]["method"] for track in attempt.tracks]
        details["method"] = "+".join(dict.fromkeys(methods))  # classic tracks are of one method
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


def run(invocation: Invocation[AugmentConfig]) -> dict[str, int]:
    """Augment a store; where scores are given, make variants again that they speak against.

    Returns:
        Rows per split; empty in all processes but the first.

    Raises:
        StageFailed: If too many variants, or all of them, failed.
        RunError: If the scores are not those of the store that was made before.
    """
    config, reader = invocation.config, StoreReader(invocation.data)
    if invocation.data.resolve() == invocation.out.resolve():
        raise UsageError(f"--out: {invocation.out} is the store that is read; name another folder")
    variants = plan(reader, config, invocation.seed)
    states = attempts.held(variants, invocation.out, config)
    judged = _judge(invocation, variants, states)
    states = judged.states if judged else states
    tasks = _works(variants, states)
    schema = features().arrow_schema
    results = pyarrow.schema([schema.field(name) for name in (*MEDIA, "generator")])
    stage = Stage("augment", invocation.out, results, invocation.run_settings(batch_size=1))
    bank = VoiceBank(config.audio, reader) if config.converts else None
    stage.perform(
        tasks,
        lambda task: Making(row=reader.row(task.payload.index), attempt=task.payload),
        lambda: MakeVariants(config, bank),
    )
    if not stage.leads:
        return {}
    keep = _others(variants, states, config, judged)
    states = _without_failed(variants, states, stage)
    tasks = _works(variants, states)
    settings = _settings(invocation, states, judged)
    counts = stage.commit(tasks, _rows(reader, tasks, stage, states), settings, keep=keep)
    rejected = len(stage.parts.failures(task.key for task in tasks))
    print(
        f"augment: {len(tasks)} variants wanted, {len(tasks) - rejected} made, {rejected} rejected"
        f" (see {invocation.out / 'failures.jsonl'})"
    )
    return counts


def _judge(
    invocation: Invocation[AugmentConfig], variants: Sequence[Variant], states: States
) -> retries.Round | None:
    """What the scores say is to be done; None without scores, or where it was done already."""
    scores, out, settings = invocation.paths.get("scores"), invocation.out, invocation.config.retries
    if scores is None:
        return None
    if settings.attempts == 0:
        raise UsageError(
            f"--scores: got {scores}, but augment.retries.attempts is 0, which makes nothing again; take 1 or"
            " more"
        )
    qualities = attempts.qualities(scores, out, variants, states)
    if qualities is None:
        _say(f"retries: {out} is what was made of these scores already; score it to go on")
        return None
    by_id = {variant.id: variant for variant in variants}
    judged = retries.judge(states, qualities, lambda row_id, number: by_id[row_id].told(number), settings)
    _say(judged.summary(settings.below))
    return judged


def _say(line: str) -> None:
    if share().rank == 0:
        print(line)


def _works(variants: Sequence[Variant], states: States) -> list[Task]:
    return [variant.task(states[variant.id].attempt) for variant in variants]


def _others(
    variants: Sequence[Variant], states: States, config: AugmentConfig, judged: retries.Round | None
) -> list[str]:
    """The keys of attempts that are no rows and may become some.

    After judging, these are the ones to fall back on. Without it nobody knows, and all that are there stay.
    """
    keys = []
    for variant in variants:
        state = states[variant.id]
        if judged:
            numbers = [] if state.spare is None else [state.spare]
        else:
            numbers = [number for number in range(config.retries.attempts + 1) if number != state.attempt]
        keys += [variant.task(number).key for number in numbers if config.retries.attempts]
    return keys


def _without_failed(variants: Sequence[Variant], states: States, stage: Stage) -> States:
    """Where the variants stand once those whose new attempt failed are back at the one before."""
    settled = dict(states)
    for variant in variants:
        state = states[variant.id]
        failure = stage.parts.failure(variant.task(state.attempt).key)
        if state.spare is not None and failure:
            told = variant.told(state.attempt) | {"error": f"{failure.error}: {failure.message}"}
            settled[variant.id] = retries.fall_back(state, told)
    return settled


def _settings(
    invocation: Invocation[AugmentConfig], states: States, judged: retries.Round | None
) -> dict[str, Any]:
    """The record of the store; it says which generation was judged, so that nothing is judged twice."""
    tries = {row_id: state.tries for row_id, state in states.items() if state.tries}
    config, read = invocation.config, committed_generation(invocation.data)
    settings = provenance.record(
        invocation,
        stage="augment",
        title="Talking-face clips with diffusion-made variants",
        description=(
            "Originals and variants of the training clips, of which each has up to"
            f" {config.variants()}. Words and labels of a variant are its original's."
        ),
        inputs=[read, digest(tries)] if tries else read,
        notes=audio_variants.notes(config.audio) if config.audio.variants or config.both else [],
    )
    return settings | ({"judged": committed_generation(invocation.out)} if judged else {})


def _rows(
    reader: StoreReader,
    tasks: list[Task],
    stage: Stage,
    states: States,
) -> Iterator[Row]:
    """Each original with its finished variants behind it."""
    variants: dict[int, list[Task]] = {}
    for task in tasks:
        variants.setdefault(task.payload.index, []).append(task)
    for index in range(len(reader)):
        source = reader.row(index)
        yield source
        for task in variants.get(index, []):
            if stage.parts.done(task.key):
                attempt: Attempt = task.payload
                made = stage.parts.get(task.key)
                replaced = {name: made[name] for name in attempt.tracks}
                generator = retries.write(made["generator"], states[task.id].tries)
                yield source | replaced | {"id": task.id, "kind": attempt.kind, "generator": generator}

"""The stage `augment`: reads a store of originals and adds variants of its training clips.

Only the split `train` is augmented. A variant keeps its original's text, labels, split and group, and
replaces its video (`video`), its audio (`audio`), or both. `python -m augment --help` lists the settings.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pyarrow

from augment import retries
from augment.audio import variants as audio_variants
from augment.audio.voice_bank import VoiceBank
from augment.classic import audio as classic_audio
from augment.classic import video as classic_video
from augment.planning import Attempt, Variant, check_embedded, plan
from augment.settings import AugmentConfig
from augment.video import variants as video_variants
from pipelines import provenance
from pipelines.device import share
from pipelines.errors import UsageError
from pipelines.row import MEDIA, Row, digest, features, media
from pipelines.runner import Stage, Task
from pipelines.running.folder_lock import alone_in_its_folder
from pipelines.running.outputs import check_output
from pipelines.store import StoreReader, committed_generation

if TYPE_CHECKING:
    from pipelines.settings import Invocation

CLASSIC = {"video": classic_video.make_variant, "audio": classic_audio.make_variant}
CLASSIC_ON = {"device": "cpu", "precision": "float32"}  # whatever device the models run on
States = dict[str, retries.State]
"""The state of each variant, by id."""


class MakeVariants:
    """Makes variants, each from its source's row; a model is loaded when the first variant needs it."""

    def __init__(self, config: AugmentConfig, bank: VoiceBank | None) -> None:
        """`bank` has the target voices; None if no variant gets another voice."""
        from pipelines.device import pick

        self.config, self.bank = config, bank
        self.device = pick(config.device)
        set_determinism()
        self.versions = provenance.versions()

    def __call__(self, batch: Sequence[tuple[Row, Attempt]]) -> list[Row]:
        return [self._variant(row, attempt) for row, attempt in batch]

    @cached_property
    def _video(self) -> video_variants.VideoVariants:
        return video_variants.VideoVariants(self.config.video, self.device)

    @cached_property
    def _audio(self) -> audio_variants.AudioVariants:
        assert self.bank is not None
        return audio_variants.AudioVariants(self.config.audio, self.device, self.bank)

    def _make(self, track: str, row: Row, attempt: Attempt) -> tuple[bytes, dict[str, Any]]:
        if attempt.variant.kind == "classic":
            encoded, made_by = CLASSIC[track](self.config.classic, row, attempt.seed, attempt.strength)
            return encoded, made_by | CLASSIC_ON
        if track == "audio":
            return self._audio(row, attempt.seed)
        return self._video(row, attempt.seed, attempt.strength)

    def _variant(self, row: Row, attempt: Attempt) -> Row:
        made: Row = dict.fromkeys(MEDIA)
        details: dict[str, Any] = {"seed": attempt.seed, "versions": self.versions}
        if attempt.number:
            details |= {"attempt": attempt.number, "strength": attempt.strength}
        tracks = attempt.variant.tracks
        for track in tracks:
            encoded, made_by = self._make(track, row, attempt)
            made[track] = media(encoded)
            source = hashlib.sha256(row[track]["bytes"]).hexdigest()
            details[track] = made_by | {"source_sha256": source}
        methods = [details[track]["method"] for track in tracks]
        details["method"] = "+".join(dict.fromkeys(methods))  # classic tracks share one method
        return made | {"generator": json.dumps(details, ensure_ascii=False, sort_keys=True)}


def set_determinism() -> None:
    """Make results independent of the number of threads, and silence the libraries' progress bars."""
    import diffusers
    import torch
    import transformers

    # With more threads, sums are computed in another order and their last bits change. Start more processes
    # instead. This is also for GPUs, next to which classic variants and resampling are computed.
    torch.set_num_threads(1)
    for library in (diffusers, transformers):
        library.utils.logging.disable_progress_bar()
        library.utils.logging.set_verbosity_error()


@alone_in_its_folder("a store")
def run(invocation: Invocation[AugmentConfig]) -> dict[str, int]:
    """Augment a store; given scores, make variants of low quality again.

    Returns:
        Rows per split; empty in all processes but the first.

    Raises:
        UsageError: If the embedded video model would ruin the clips, or `--out` is in the store that is read.
        StageFailed: If too many variants, or all of them, failed.
        RunError: If the scores were not made from the current store.
    """
    config, reader = invocation.config, StoreReader(invocation.data)
    check_output(invocation.out, {"--data": invocation.data})
    check_embedded(reader, config)
    variants = plan(reader, config, invocation.seed)
    states = retries.stored_states(variants, invocation.out, config)
    judged = _judge(invocation, variants, states)
    states = judged.states if judged else states
    schema = features().arrow_schema
    results = pyarrow.schema([schema.field(name) for name in (*MEDIA, "generator")])
    stage = Stage("augment", invocation.out, results, invocation.run_settings(batch_size=1))
    bank = VoiceBank(config.audio, reader) if config.converts else None
    stage.perform(
        _tasks(variants, states),
        lambda task: (reader.row(task.payload.variant.index), task.payload),
        lambda: MakeVariants(config, bank),
        others=[
            Attempt(variant, number).task().key
            for variant in variants
            for number in range(1 + config.retries.attempts)
        ],
    )
    if not stage.leads:
        return {}
    keep = _results_to_keep(variants, states, config, judged)
    states = _with_fallbacks(variants, states, stage)
    tasks = _tasks(variants, states)
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
    """What to make again because of the scores; None without scores, or if that was done already."""
    scores, out, settings = invocation.paths.get("scores"), invocation.out, invocation.config.retries
    if scores is None:
        return None
    if settings.attempts == 0:
        raise UsageError(
            f"--scores: got {scores}, but augment.retries.attempts is 0, which makes nothing again; take 1 or"
            " more"
        )
    qualities, judged = retries.qualities(scores, out, variants, states), None
    if qualities is not None:
        by_id = {variant.id: variant for variant in variants}
        judged = retries.judge(
            states, qualities, lambda row_id, number: Attempt(by_id[row_id], number).record(), settings
        )
    if share().rank == 0:
        done = f"retries: {out} was already made from these scores; score it to go on"
        print(judged.summary if judged else done)
    return judged


def _tasks(variants: Sequence[Variant], states: States) -> list[Task]:
    return [Attempt(variant, states[variant.id].attempt).task() for variant in variants]


def _results_to_keep(
    variants: Sequence[Variant], states: States, config: AugmentConfig, judged: retries.Round | None
) -> list[str]:
    """The keys of attempts that are not in the store but may return to it.

    After judging, these are the fallbacks. Without scores any attempt may turn out to be the best, so all
    finished ones are kept.
    """
    keys = []
    for variant in variants:
        state = states[variant.id]
        if judged:
            numbers = [] if state.fallback is None else [state.fallback]
        else:
            numbers = [number for number in range(config.retries.attempts + 1) if number != state.attempt]
        keys += [Attempt(variant, number).task().key for number in numbers if config.retries.attempts]
    return keys


def _with_fallbacks(variants: Sequence[Variant], states: States, stage: Stage) -> States:
    """The states, with variants whose new attempt failed back at the attempt before."""
    settled = dict(states)
    for variant in variants:
        state = states[variant.id]
        attempt = Attempt(variant, state.attempt)
        failure = stage.parts.failure(attempt.task().key)
        if state.fallback is not None and failure:
            record = attempt.record() | {"error": f"{failure.error}: {failure.message}"}
            settled[variant.id] = retries.fall_back(state, record)
    return settled


def _settings(
    invocation: Invocation[AugmentConfig], states: States, judged: retries.Round | None
) -> dict[str, Any]:
    """The record of the store, with the generation that the scores were for, so that it is judged once."""
    tries = {row_id: state.tries for row_id, state in states.items() if state.tries}
    config, read = invocation.config, committed_generation(invocation.data)
    counts = ", ".join(f"{count} {kind}" for kind, count in config.variants().items() if count)
    settings = provenance.record(
        invocation,
        stage="augment",
        title="Talking-face clips with diffusion-made variants",
        description=(
            "Originals and variants of the training clips, of which each has up to"
            f" {counts or 0}. Words and labels of a variant are its original's."
        ),
        inputs=[read, digest(tries)] if tries else read,
        notes=audio_variants.notes(config.audio) if config.converts else [],
    )
    return settings | ({"judged": committed_generation(invocation.out)} if judged else {})


def _rows(reader: StoreReader, tasks: list[Task], stage: Stage, states: States) -> Iterator[Row]:
    """Each original, followed by its finished variants."""
    by_source: dict[int, list[Task]] = {}
    for task in tasks:
        by_source.setdefault(task.payload.variant.index, []).append(task)
    for index in range(len(reader)):
        source = reader.row(index)
        yield source
        for task in by_source.get(index, []):
            if stage.parts.done(task.key):
                variant: Variant = task.payload.variant
                made = stage.parts.get(task.key)
                replaced = {track: made[track] for track in variant.tracks}
                generator = retries.with_tries(made["generator"], states[task.id].tries)
                yield source | replaced | {"id": task.id, "kind": variant.kind, "generator": generator}

"""Variants that are made again: which ones, as which attempt, and what a row records about the others.

A variant is first made as attempt 0. If its quality is below a threshold, it is made again with another
seed and less strength, as attempt 1, 2 and so on. When no attempts are left, the best one becomes its row.
A row's `generator` then contains the row's own `attempt` and, in `tries`, the other attempts, each with its
seed, strength and quality. Rows that were never made again have neither.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from augment.planning import Attempt, Variant
from augment.settings import AugmentConfig, RetrySettings
from pipelines.atomic import read_json_lines
from pipelines.errors import RunError
from pipelines.finished_tasks import committed, committed_tasks
from pipelines.store import StoreReader, committed_generation, is_store, made_by
from pipelines.untrusted.plain_json import parsed_json

Try = dict[str, Any]
"""`attempt`, `seed`, `strength`, `quality` (None if it has none), and `error` if it failed."""


@dataclass(frozen=True, kw_only=True)
class State:
    """The attempts at a variant so far."""

    attempt: int = 0  # the one in its row
    tries: tuple[Try, ...] = ()  # the others that were made, earliest first
    fallback: int | None = None  # the best of `tries`, while the row's attempt is not yet made and scored

    @property
    def newest(self) -> int:
        """The latest attempt."""
        return max(self.attempt, *(each["attempt"] for each in self.tries), 0)


class Round(NamedTuple):
    """The decisions about all variants after one scoring."""

    states: dict[str, State]  # by the variant's id
    summary: str  # one line for the terminal


def stored_states(variants: Sequence[Variant], out: Path, config: AugmentConfig) -> dict[str, State]:
    """The state of each variant in the store at `out`, by id.

    A variant without a row, or whose row was made with other settings or another seed, is at its first
    attempt. So are all variants if retries are off.
    """
    states = {variant.id: State() for variant in variants}
    if config.retries.attempts == 0 or not is_store(out):
        return states
    known = committed(out)
    generators = _column(known.reader, "generator") if known.reader else {}
    for variant in variants:
        if variant.id in generators:
            state = read_state(generators[variant.id])
            if Attempt(variant, state.attempt).task().key in known.tasks:
                states[variant.id] = state
    return states


def read_state(generator: str) -> State:
    """The state of a variant, from its row's `generator`."""
    details = parsed_json(generator)
    return State(attempt=details.get("attempt", 0), tries=tuple(details.get("tries", ())))


def with_tries(generator: str, tries: tuple[Try, ...]) -> str:
    """The `generator` of a finished attempt, with the other attempts added."""
    details = parsed_json(generator)
    attempt = details.pop("attempt", 0)
    details.pop("tries", None)  # left over if the attempt was read back from an earlier row
    if tries:
        details |= {"attempt": attempt, "tries": [*tries]}
    return json.dumps(details, ensure_ascii=False, sort_keys=True)


def qualities(
    scores: Path, out: Path, variants: Sequence[Variant], states: Mapping[str, State]
) -> dict[str, float | None] | None:
    """The quality of each variant in the store at `out` whose source was scored; None for one without.

    Args:
        scores: The scored store made from `out`.
        out: The augmented store.
        variants: The variants that the settings ask for.
        states: Their states.

    Returns:
        None if the store at `out` was already made from these scores.

    Raises:
        RunError: If `scores` was not made from `out`, or `out` was not made with these settings.
    """
    reader = StoreReader(scores)
    step = f"run `python -m score --data {out}` and give its --out here"
    if not reader.scores:
        raise RunError(f"--scores: {scores} has no columns score_*, wanted a scored store; {step}")
    scored, holds = made_by(scores).get("inputs"), committed_generation(out) if is_store(out) else "nothing"
    if scored == holds:
        _check_complete(out, variants, states, step)
        rows, quality = set(committed_tasks(out).values()), _column(reader, "quality")
        scorable = [each.id for each in variants if each.id in rows and each.source_id in quality]
        return {row_id: quality.get(row_id) for row_id in scorable}
    if scored and scored == made_by(out).get("judged"):
        return None
    raise RunError(
        f"--scores: {scores} was scored from a store of generation {scored}, but {out} holds {holds}; {step}"
    )


def _check_complete(out: Path, variants: Sequence[Variant], states: Mapping[str, State], step: str) -> None:
    """Raise RunError if the store at `out` has neither a row nor a failure for a variant."""
    known = {*committed_tasks(out), *(failure["key"] for failure in read_json_lines(out / "failures.jsonl"))}
    attempts = [Attempt(each, states[each.id].attempt) for each in variants]
    missing = [attempt.variant.id for attempt in attempts if attempt.task().key not in known]
    if missing:
        raise RunError(
            f"--scores: {len(missing)} of {len(variants)} variants are not in {out} as these settings and"
            f" this seed make them, the first is {missing[0]}; run the same without --scores, then {step}"
        )


def _column(reader: StoreReader, name: str) -> dict[str, Any]:
    """A column's values by row id."""
    return dict(zip(reader.table["id"].to_pylist(), reader.table[name].to_pylist(), strict=True))


def judge(
    states: Mapping[str, State],
    qualities: Mapping[str, float | None],
    describe: Callable[[str, int], Try],
    settings: RetrySettings,
) -> Round:
    """Decide which variants are made again, worst first, and which attempt is kept of the others.

    Args:
        states: The state of each variant, by id.
        qualities: The quality of the attempts in the rows; variants without an entry keep their state.
        describe: The `attempt`, `seed` and `strength` of an attempt, from the variant's id and its number.
        settings: When to make a variant again, and how often.
    """
    tries = {
        row_id: _with(states[row_id].tries, describe(row_id, states[row_id].attempt) | {"quality": quality})
        for row_id, quality in qualities.items()
    }
    best = {row_id: _best(states[row_id], tries[row_id]) for row_id in tries}
    below = [row_id for row_id in tries if _quality(best[row_id]) < settings.below]
    left = [row_id for row_id in below if states[row_id].newest < settings.attempts]
    budget = None
    if settings.budget is not None:
        # The rows say how many were made again so far.
        allowed = math.floor(settings.budget * len(states) + 1e-9)
        budget = max(0, allowed - sum(state.newest for state in states.values()))
    again = set(sorted(left, key=lambda row_id: (_quality(best[row_id]), row_id))[:budget])
    decided = {}
    for row_id, kept in best.items():
        if row_id in again:
            number = states[row_id].newest + 1
            decided[row_id] = State(attempt=number, tries=tries[row_id], fallback=kept["attempt"])
        else:
            others = tuple(each for each in tries[row_id] if each is not kept)
            decided[row_id] = State(attempt=kept["attempt"], tries=others)
    retried = [row_id for row_id in tries if states[row_id].newest > 0]
    better = sum(best[row_id]["attempt"] > 0 for row_id in retried)
    back = sum(decided[row_id].attempt < states[row_id].attempt for row_id in retried)
    summary = (
        f"retries: {len(below)} of {len(states)} variants below {settings.below:g}, {len(again)} made"
        f" again now; of {len(retried)} made again before, {better} are better than at first, and"
        f" {back} go back to an earlier attempt;"
        f" budget: {'no limit' if budget is None else f'{budget - len(again)} left'}"
    )
    return Round({**states, **decided}, summary)


def fall_back(state: State, failed: Try) -> State:
    """The state of a variant whose newest attempt failed: its best earlier attempt becomes the row."""
    assert state.fallback is not None
    tries = tuple(each for each in state.tries if each["attempt"] != state.fallback)
    return State(attempt=state.fallback, tries=_with(tries, failed | {"quality": None}))


def _with(tries: tuple[Try, ...], one: Try) -> tuple[Try, ...]:
    return tuple(sorted((*tries, one), key=lambda each: each["attempt"]))


def _best(state: State, tries: tuple[Try, ...]) -> Try:
    """The attempt to keep; the earliest of equally good ones.

    A row that went back to an earlier attempt stays there until the variant is made again, whatever the
    second scoring of it says. Otherwise the rounds might never end.
    """
    if state.attempt < state.newest:
        return next(each for each in tries if each["attempt"] == state.attempt)
    return max(tries, key=lambda each: (_quality(each), -each["attempt"]))


def _quality(one: Try) -> float:
    """The quality of an attempt; one without a quality ranks below all others."""
    return -1.0 if one["quality"] is None else one["quality"]

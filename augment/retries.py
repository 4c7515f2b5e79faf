"""Variants made again: which ones, as which attempt, and what a row tells of the others.

A variant is first made as attempt 0. Where it scores below a threshold it is made again, by another
seed and with less strength, as attempt 1, 2 and so on; when none is left, its best attempt is its row.
A row's `generator` then names the row's own `attempt`, and has in `tries` the others, each with its
seed, its strength and the quality that it had. Rows of which nothing was made again have neither.

Decides from records alone; knows no model and no medium.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from augment.settings import RetrySettings

Try = dict[str, Any]
"""`attempt`, `seed`, `strength`, `quality`, which is None where it has none, and `error` where it failed."""


@dataclass(frozen=True, kw_only=True)
class State:
    """Where a variant stands."""

    attempt: int = 0
    """The one in its row."""
    tries: tuple[Try, ...] = ()
    """The others that were made, the earliest first."""
    spare: int | None = None
    """The best of these where the row's own is yet to be made and judged."""

    @property
    def newest(self) -> int:
        """The attempt that was made last."""
        return max(self.attempt, *(each["attempt"] for each in self.tries), 0)


@dataclass(frozen=True, kw_only=True)
class Round:
    """What came of judging the variants once."""

    states: dict[str, State]
    """Of all variants, by id."""
    below: int
    """Variants whose best attempt is below the threshold, or has no quality."""
    again: int
    """Those to be made again now."""
    tried: int
    """Those that were made again before."""
    better: int
    """Those of them whose best attempt is not their first."""
    back: int
    """Those of them that go back to an earlier attempt now."""
    budget: int | None
    """How many may be made again after that; None without a limit."""

    def summary(self, threshold: float) -> str:
        """One line for the terminal."""
        left = "no limit" if self.budget is None else f"{self.budget} left"
        return (
            f"retries: {self.below} of {len(self.states)} variants below {threshold:g}, {self.again} made"
            f" again now; of {self.tried} made again before, {self.better} are better than at first, and"
            f" {self.back} go back to an earlier attempt; budget: {left}"
        )


def read(generator: str) -> State:
    """Where a variant stands, from its row's `generator`."""
    details = json.loads(generator)
    return State(attempt=details.get("attempt", 0), tries=tuple(details.get("tries", ())))


def write(generator: str, tries: tuple[Try, ...]) -> str:
    """The `generator` of a made variant, as its row has it."""
    details = json.loads(generator)
    attempt = details.pop("attempt", 0)
    details.pop("tries", None)  # those of the row that it was read back from
    if tries:
        details |= {"attempt": attempt, "tries": [*tries]}
    return json.dumps(details, ensure_ascii=False, sort_keys=True)


def judge(
    states: Mapping[str, State],
    qualities: Mapping[str, float | None],
    told: Callable[[str, int], Try],
    settings: RetrySettings,
) -> Round:
    """Decide what is made again, the worst first, and which attempt is kept of the rest.

    Args:
        states: Where each variant stands, by id.
        qualities: Those of the attempts in the rows; a variant that is not among them stays as it is.
        told: Of a variant's id and an attempt, what a try tells: `attempt`, `seed`, `strength`.
        settings: When to make again, and how often.
    """
    tries = {
        row_id: _with(states[row_id].tries, told(row_id, states[row_id].attempt) | {"quality": quality})
        for row_id, quality in qualities.items()
    }
    best = {row_id: _best(states[row_id], tries[row_id]) for row_id in tries}
    worth = {row_id: _worth(tries[row_id], best[row_id]) for row_id in tries}
    below = [row_id for row_id in tries if worth[row_id] < settings.below]
    left = [row_id for row_id in below if states[row_id].newest < settings.attempts]
    budget = _budget(states, settings)
    again = set(sorted(left, key=lambda row_id: (worth[row_id], row_id))[:budget])
    decided = {
        row_id: _next(states[row_id], tries[row_id], best[row_id], row_id in again) for row_id in tries
    }
    tried = [row_id for row_id in tries if states[row_id].newest > 0]
    return Round(
        states={**states, **decided},
        below=len(below),
        again=len(again),
        tried=len(tried),
        better=sum(best[row_id] > 0 for row_id in tried),
        back=sum(decided[row_id].attempt < states[row_id].attempt for row_id in tried),
        budget=None if budget is None else budget - len(again),
    )


def fall_back(state: State, failed: Try) -> State:
    """Where a variant stands whose newest attempt failed: at its best one before."""
    assert state.spare is not None
    tries = tuple(each for each in state.tries if each["attempt"] != state.spare)
    return State(attempt=state.spare, tries=_with(tries, failed | {"quality": None}))


def _with(tries: tuple[Try, ...], one: Try) -> tuple[Try, ...]:
    return tuple(sorted((*tries, one), key=lambda each: each["attempt"]))


def _best(state: State, tries: tuple[Try, ...]) -> int:
    """The attempt to keep: of equally good ones the earliest.

    A row that was taken back to an earlier attempt stays there until it is made again, whatever a second
    look at it says, so that judging comes to an end.
    """
    if state.attempt < state.newest:
        return state.attempt
    return max(tries, key=lambda each: (_quality(each), -each["attempt"]))["attempt"]


def _worth(tries: tuple[Try, ...], attempt: int) -> float:
    return next(_quality(each) for each in tries if each["attempt"] == attempt)


def _quality(one: Try) -> float:
    """Nothing vouches for a variant without quality: it is worse than any other."""
    return -1.0 if one["quality"] is None else one["quality"]


def _budget(states: Mapping[str, State], settings: RetrySettings) -> int | None:
    """How many variants may still be made again; those made so far are in the rows."""
    if settings.budget is None:
        return None
    allowed = math.floor(settings.budget * len(states) + 1e-9)
    return max(0, allowed - sum(state.newest for state in states.values()))


def _next(state: State, tries: tuple[Try, ...], best: int, again: bool) -> State:
    if again:
        return State(attempt=state.newest + 1, tries=tries, spare=best)
    return State(attempt=best, tries=tuple(each for each in tries if each["attempt"] != best))

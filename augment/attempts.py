"""What the stores tell: which attempts the augmented one holds, and what the scored one makes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from augment import retries
from augment.planning import Variant
from augment.settings import AugmentConfig
from pipelines.atomic import read_json_lines
from pipelines.errors import RunError
from pipelines.finished_tasks import committed_tasks
from pipelines.store import StoreReader, committed_generation, is_store, made_by


def held(variants: Sequence[Variant], out: Path, config: AugmentConfig) -> dict[str, retries.State]:
    """Where each variant stands in the store at `out`, by id.

    At its first attempt is one of which that store has no row, or a row that other settings or another
    seed made; and so are all where nothing is to be made again.
    """
    states = {variant.id: retries.State() for variant in variants}
    if config.retries.attempts == 0 or not is_store(out):
        return states
    made, generators = committed_tasks(out), _column(StoreReader(out), "generator")
    for variant in variants:
        if variant.id in generators:
            state = retries.read(generators[variant.id])
            if variant.task(state.attempt).key in made:
                states[variant.id] = state
    return states


def qualities(
    scores: Path, out: Path, variants: Sequence[Variant], states: Mapping[str, retries.State]
) -> dict[str, float | None] | None:
    """The quality of each variant in the store at `out` whose source was scored; None of one without.

    Args:
        scores: The store at `out`, scored.
        out: What is to be judged.
        variants: Those that the settings ask for.
        states: Where they stand.

    Returns:
        None if the store at `out` is what was made of these scores already.

    Raises:
        RunError: If `scores` was not made from the store at `out`, or that not by these settings.
    """
    reader = StoreReader(scores)
    step = f"run `python -m score --data {out}` and give its --out here"
    if not reader.scores:
        raise RunError(f"--scores: {scores} has no columns score_*, wanted a scored store; {step}")
    scored, holds = made_by(scores).get("inputs"), committed_generation(out) if is_store(out) else "nothing"
    if scored == holds:
        _check_made(out, variants, states, step)
        rows, found = set(committed_tasks(out).values()), _column(reader, "quality")
        judged = [each for each in variants if each.id in rows and each.source_id in found]
        return {each.id: found.get(each.id) for each in judged}
    if scored and scored == made_by(out).get("judged"):
        return None
    raise RunError(
        f"--scores: {scores} was scored from a store of generation {scored}, but {out} holds {holds}; {step}"
    )


def _check_made(
    out: Path, variants: Sequence[Variant], states: Mapping[str, retries.State], step: str
) -> None:
    """Refuse to judge a store that other settings made, or another seed.

    Raises:
        RunError: If there is a variant of which that store has neither a row nor a failure.
    """
    known = {*committed_tasks(out), *(failure["key"] for failure in read_json_lines(out / "failures.jsonl"))}
    missing = [each.id for each in variants if each.task(states[each.id].attempt).key not in known]
    if missing:
        raise RunError(
            f"--scores: {len(missing)} of {len(variants)} variants are not in {out} as these settings and"
            f" this seed make them, the first is {missing[0]}; run the same without --scores, then {step}"
        )


def _column(reader: StoreReader, name: str) -> dict[str, Any]:
    """A column's values by the row's id."""
    return dict(zip(reader.table["id"].to_pylist(), reader.table[name].to_pylist(), strict=True))

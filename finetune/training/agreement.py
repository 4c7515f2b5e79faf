"""Decisions of the first process that all processes of a launcher follow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from pipelines.device import share
from pipelines.errors import RunError, UsageError

Decision = TypeVar("Decision")


def agreed(decide: Callable[[], Decision]) -> Decision:
    """What the first process decides, in all processes; so is its refusal.

    Raises:
        RunError, UsageError: As `decide` does, in all processes.
    """
    decided: list[Any] = [None]
    if share().rank == 0:
        try:
            decided = [decide()]
        except (RunError, UsageError) as error:
            decided = [error]
    if share().processes > 1:
        from accelerate.utils import broadcast_object_list

        decided = broadcast_object_list(decided)
    if isinstance(decided[0], Exception):
        raise decided[0]
    return decided[0]

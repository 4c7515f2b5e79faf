"""Errors that a user can mend end a program with one line on stderr and an exit code, not a traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import NoReturn


class RunError(Exception):
    """A run that cannot go on or has failed: exit code 1."""


class UsageError(ValueError):
    """A command line or a recipe that cannot be followed, the message naming the key: exit code 2."""


class RowError(ValueError):
    """What is wrong with one row's own content: it costs that row alone, however many rows have it."""


def reason(error: BaseException) -> str:
    """The first line of what an error says; its kind where it says nothing."""
    said = (line.strip() for line in str(error).splitlines())
    return next((line for line in said if line), type(error).__name__)


def listed(values: Iterable[str], most: int = 5) -> str:
    """The first values, and how many more there are."""
    values = list(values)
    more = f" and {len(values) - most} more" if len(values) > most else ""
    return f"{', '.join(values[:most])}{more}"


def call(main: Callable[[list[str]], None]) -> NoReturn:
    """Run a program's `main` on its arguments and leave with its exit code: 0 where it was done."""
    try:
        main(sys.argv[1:])
    except (UsageError, RunError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, UsageError) else 1)
    sys.exit(0)

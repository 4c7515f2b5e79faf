"""Errors that a user can fix end a program with one line on stderr and an exit code, without a traceback."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable
from typing import NoReturn

from pipelines.stop_signal import end_with_launcher, interrupt_on_signals

logger = logging.getLogger(__name__)


class RunError(Exception):
    """A run cannot continue or has failed: exit code 1."""


class UsageError(ValueError):
    """An invalid command line or recipe; the message names the key: exit code 2."""


class RowError(ValueError):
    """An error in a row's own content: only that row fails, however many rows have the error."""


def reason(error: BaseException) -> str:
    """The first line of an error's message; its class if there is no message."""
    lines = (line.strip() for line in str(error).splitlines())
    return next((line for line in lines if line), type(error).__name__)


def listed(values: Iterable[str], most: int = 5) -> str:
    """The first values, and the number of the others."""
    values = list(values)
    more = f" and {len(values) - most} more" if len(values) > most else ""
    return f"{', '.join(values[:most])}{more}"


def call(main: Callable[[list[str]], None]) -> NoReturn:
    """Run a program's `main` on its arguments and exit with its exit code.

    SIGTERM and Ctrl-C, and the death of a launcher that started it, stop the program.
    """
    interrupt_on_signals()
    end_with_launcher()
    try:
        main(sys.argv[1:])
    except (UsageError, RunError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, UsageError) else 1)
    except KeyboardInterrupt:
        print("error: stopped; the same command goes on", file=sys.stderr)
        sys.exit(1)
    except (OSError, MemoryError, ImportError) as error:
        from pipelines.machine_faults import machine_fault

        logger.debug("the error in full", exc_info=error)
        print(f"error: {machine_fault(error) or error}", file=sys.stderr)
        sys.exit(1)
    sys.exit(0)

"""How programs end and what they print.

Errors that a user can fix end a program with one line on stderr and an exit code, without a traceback. Ids,
paths, texts and libraries' errors come from data, so what a program prints has the characters written out
that a terminal would obey instead of show.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Callable, Iterable
from typing import Any, NoReturn, TextIO, cast

from pipelines.running.stop_signal import end_with_launcher, interrupt_on_signals

# C0 but the line break, DEL and C1; what turns the direction of writing or breaks lines; lone surrogates.
_OBEYED = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
# What a progress bar writes by itself: the start of its line, or the way to another bar's.
_OF_A_BAR = re.compile(r"\r|\n*(?:\x1b\[A)+\Z")
_LONGEST_LINE = 4000  # characters of an error

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


def visible(text: str) -> str:
    """A text with what a terminal would obey written out, such as \\x1b and \\u202e; line breaks stay."""
    return _OBEYED.sub(_written_out, text)


def one_line(text: str) -> str:
    """A text as one visible line of at most 4000 characters."""
    line = " ".join(line.strip() for line in visible(text).split("\n") if line.strip())
    return line if len(line) <= _LONGEST_LINE else f"{line[:_LONGEST_LINE]} …"


class _Shown:
    """A stream to which only visible text is written; a progress bar may go back in its line."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        bar = _OF_A_BAR.match(text)
        start = bar.end() if bar else 0
        return self._stream.write(text[:start] + visible(text[start:]))

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _OneLine(logging.Formatter):
    """A log's message in one line."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return one_line(super().formatMessage(record))


def _show_only_text() -> None:
    """Let nothing that this program prints or logs steer the terminal."""
    os.environ.setdefault("NO_COLOR", "1")  # colours would be written out, too
    sys.stdout, sys.stderr = cast(TextIO, _Shown(sys.stdout)), cast(TextIO, _Shown(sys.stderr))
    if logging.lastResort:  # the handler of programs that set up none
        logging.lastResort.setFormatter(_OneLine())


def _written_out(found: re.Match[str]) -> str:
    # Above ASCII in four digits, which JSON reads as the same character.
    code = ord(found.group())
    return f"\\x{code:02x}" if code < 0x7F else f"\\u{code:04x}"


def call(main: Callable[[list[str]], None]) -> NoReturn:
    """Run a program's `main` on its arguments and exit with its exit code; it prints visible text alone.

    SIGTERM and Ctrl-C, and the death of a launcher that started it, stop the program.
    """
    _show_only_text()
    interrupt_on_signals()
    end_with_launcher()
    try:
        main(sys.argv[1:])
    except (UsageError, RunError) as error:
        print(one_line(f"error: {error}"), file=sys.stderr)
        sys.exit(2 if isinstance(error, UsageError) else 1)
    except KeyboardInterrupt:
        print("error: stopped; the same command goes on", file=sys.stderr)
        sys.exit(1)
    except (OSError, MemoryError, ImportError) as error:
        from pipelines.running.machine_faults import machine_fault

        logger.debug("the error in full", exc_info=error)
        print(one_line(f"error: {machine_fault(error) or error}"), file=sys.stderr)
        sys.exit(1)
    sys.exit(0)

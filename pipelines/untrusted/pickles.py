"""Reads untrusted pickles: arrays, numbers, strings and containers, and nothing else.

A pickle is a program: it names functions and calls them. Here every name is looked up in a table; any other
name ends the reading before anything of that name is imported or called. The program runs on a machine that
bounds what it makes by the size of its file, so a short pickle is read, or refused, in a short time.

Python 2 pickles are read as latin1, which preserves both their strings and their arrays.
"""

from __future__ import annotations

import gc
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipelines.errors import RunError, one_line, reason
from pipelines.running.machine_faults import refuse_fault
from pipelines.untrusted.pickle_machine import Machine, Refused

_SHOWN = 200  # characters of an error about what is in the file


class PickleError(RunError):
    """A pickle that is broken or has refused content. The message names it and the file."""


def load(path: str | Path) -> Any:
    """Read a pickle file; arrays are of an `ndarray` subclass that `np.asarray` makes plain.

    Raises:
        PickleError: If it cannot be read, is broken, names anything but arrays, numbers, strings and
            containers, or would be much larger than its file. None of its code has then run.
        MachineFault: If memory is short, or the disk fails.
    """
    try:
        with Path(path).open("rb") as file:
            about = os.fstat(file.fileno())
            if not stat.S_ISREG(about.st_mode):
                raise PickleError(f"{path}: no regular file; it takes a pickle file")
            with _cycles_unsought():
                return Machine(file, about.st_size).run()
    except PickleError:
        raise
    except Refused as error:
        raise PickleError(f"{path}: {one_line(str(error))}") from error
    except Exception as error:  # a broken pickle can raise anything
        refuse_fault(error, f"{path}: cannot be read")
        if isinstance(error, OSError):
            raise PickleError(f"{path}: cannot be read ({error.strerror})") from error
        said = one_line(f"{type(error).__name__}: {reason(error)}"[:_SHOWN])
        raise PickleError(f"{path}: not a whole pickle ({said})") from error


@contextmanager
def _cycles_unsought() -> Iterator[None]:
    """Without Python's collector, which would look at all containers again and again; cycles are refused."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()

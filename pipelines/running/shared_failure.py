"""Whether the first rows that a stage tries all fail for one reason, which is then an error of the run.

A package with another interface, or a model that cannot run here, fails on every row alike. Errors about a
row's own content (`pipelines.errors.RowError`) never count: a corpus may begin with eight broken files.
"""

from __future__ import annotations

import re

from pipelines.finished_tasks import Failure

ENOUGH = 8  # first rows in succession whose like failures count as an error of the run
# What differs between rows in the same message: paths, addresses, numbers.
_OWN = re.compile(r"\S*[/\\]\S*|\b0x[0-9a-f]+|[-+]?\d[\d.,]*(e[-+]?\d+)?", re.IGNORECASE)


class FirstFailures:
    """Failures, in the order of the rows, held back while no row was done and all are alike."""

    def __init__(self) -> None:
        self.held: list[Failure] = []
        self._open = True

    def holds(self, failure: Failure) -> bool:
        """Whether this failure is held back with those before it; if not, `release` them all."""
        if not self._open or (self.held and likeness(failure) != likeness(self.held[0])):
            return False
        self.held.append(failure)
        return True

    def release(self) -> list[Failure]:
        """The failures held back so far; nothing is held back from now on."""
        held, self.held, self._open = self.held, [], False
        return held


def likeness(failure: Failure) -> tuple[str, str]:
    """What failures for one reason have in common: the error, and the message without ids and numbers."""
    source_id = failure.id.partition("#")[0]
    message = failure.message.replace(failure.id, "").replace(source_id, "")
    return failure.error, _OWN.sub("", message)

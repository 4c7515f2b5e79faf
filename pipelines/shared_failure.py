"""Whether the first rows that a stage tries fail for one reason, which is then the run's and no row's.

A package that lost an argument, or a model that cannot compute here, fails on every row alike. Errors about
a row's own content (`pipelines.errors.RowError`) never count: a corpus may begin with eight broken files.
"""

from __future__ import annotations

import re

from pipelines.finished_tasks import Failure

ENOUGH = 8
"""Rows in a row, from the first one on, whose like failures are taken for the run's."""
# What differs from row to row in one and the same message: paths, addresses, numbers.
_OWN = re.compile(r"\S*[/\\]\S*|\b0x[0-9a-f]+|[-+]?\d[\d.,]*(e[-+]?\d+)?", re.IGNORECASE)


class FirstFailures:
    """Failures that are held back for as long as no row was done and all are alike.

    Attributes:
        held: The failures, in the order of the rows.
    """

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
        """Those held back, which are the rows' own after all; nothing is held back any more."""
        held, self.held, self._open = self.held, [], False
        return held


def likeness(failure: Failure) -> tuple[str, str]:
    """What failures of one reason have in common: the error, and the message but for ids and numbers."""
    source_id = failure.id.partition("#")[0]
    message = failure.message.replace(failure.id, "").replace(source_id, "")
    return failure.error, _OWN.sub("", message)

"""The progress of a stage: `status.json` in its folder, and a bar if the output is a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

from tqdm import tqdm

from pipelines.atomic import write_json
from pipelines.device import Share
from pipelines.untrusted.plain_json import parsed_json

INTERVAL_S = 1.0  # between two updates of status.json


@dataclass(frozen=True)
class Tally:
    """Numbers of a stage's rows by state."""

    done: int
    failed: int
    left: int

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.done + other.done, self.failed + other.failed, self.left + other.left)

    @property
    def total(self) -> int:
        return self.done + self.failed + self.left


class Progress:
    """Writes the status of one process' share; the first process adds up all shares.

    Args:
        directory: The folder of the stage's store.
        stage: The stage's name.
        share: The share of this process.
        tallies: The rows of each process at the start, by rank.
    """

    def __init__(self, directory: Path, stage: str, share: Share, tallies: Sequence[Tally]) -> None:
        self.directory, self.stage, self.share = directory, stage, share
        self.tally = tallies[share.rank]
        self._started = time.monotonic()
        self._first = tallies
        self._shown = -INTERVAL_S
        everywhere = self.everywhere()
        self._bar = tqdm(
            desc=stage,
            total=everywhere.total,
            initial=everywhere.total - everywhere.left,
            unit="row",
            disable=not sys.stderr.isatty() or share.rank > 0,
        )

    def __enter__(self) -> Self:
        self.show(state="running")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.show(state="stopped" if error else "done")
        self._bar.close()

    def advance(self, done: int, failed: int) -> None:
        """Count rows that were done and rows that failed."""
        self.tally += Tally(done, failed, -done - failed)
        if time.monotonic() - self._shown >= INTERVAL_S:
            self.show()

    def show(self, state: str = "running") -> None:
        """Write the status and update the bar."""
        self._shown = time.monotonic()
        if self.share.rank > 0:
            # The first process may have committed and removed the parts.
            with suppress(FileNotFoundError):
                write_json(self._file(self.share.rank), asdict(self.tally))
            return
        tally = self.everywhere()
        now = datetime.now(UTC)
        finished = sum(first.left for first in self._first) - tally.left
        rate = finished / max(time.monotonic() - self._started, 1e-9)
        end = now + timedelta(seconds=tally.left / rate) if rate > 0 else None
        status = {
            "stage": self.stage,
            "state": state,
            **asdict(tally),
            "rows_per_second": round(rate, 3),
            "expected_end": end.isoformat(timespec="seconds") if end else None,
            "updated": now.isoformat(timespec="seconds"),
        }
        write_json(self.directory / "status.json", status)
        self._bar.total = tally.total
        self._bar.update(tally.total - tally.left - self._bar.n)

    def everywhere(self) -> Tally:
        """The sum over all processes, whether they have started or not."""
        tallies = dict(enumerate(self._first)) | {self.share.rank: self.tally}
        for rank in range(1, self.share.processes) if self.share.rank == 0 else ():
            # Missing until that process has started; a damaged one is soon written again.
            with suppress(FileNotFoundError, ValueError, TypeError):
                tallies[rank] = Tally(**parsed_json(self._file(rank).read_text(encoding="utf-8")))
        return sum(tallies.values(), start=Tally(0, 0, 0))

    def _file(self, rank: int) -> Path:
        return self.directory / "parts" / f"progress-{rank}.json"

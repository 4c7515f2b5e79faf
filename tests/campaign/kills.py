"""What SIGKILL leaves before every change of the file system, in every stage; then the same command again.

A stage is tried in a fresh folder, over its own finished work, over work of another setting, and over work on
inputs of which one clip was another. In each, the command is stopped before its first change, its second, and
so on to its last, and the folder, which is then as SIGKILL would leave it, is kept. It is killed before some
of the changes, and in the middle of some writes. The folder that is left must hold a whole store or none; and
the command must then end as if nothing had been.
"""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.campaign.findings import Finding, Trial, broken_card, of_end, of_tree, state
from tests.campaign.interception import EACH, UNDISTURBED, Change, Fault
from tests.campaign.programs import Ended, Program
from tests.campaign.stages import STAGES, Bench, Stage, restore

KILLED = 16  # changes before which a stage is killed
WRITES = 12  # in whose middle it is
IN_SHORT = 2  # of each in the short campaign


@dataclass(frozen=True)
class Case:
    """A stage in a state.

    Attributes:
        name: Of the stage and the state.
        begin: The folder that the state is kept in; None of a stage that begins as it does at first.
        state: Of the inputs.
        more: Further arguments.
    """

    name: str
    stage: Stage
    begin: Path | None
    state: str
    more: tuple[str, ...]


@dataclass(frozen=True)
class Straight:
    """An undisturbed run of a case: its end, and a copy of the folder that it left."""

    ended: Ended
    left: Path

    @property
    def changes(self) -> list[Change]:
        """Those that count."""
        return [change for change in self.ended.changes if change.what != "write"]

    @property
    def writes(self) -> int:
        """How many it made."""
        return len(self.ended.changes) - len(self.changes)


def cases(bench: Bench, name: str) -> Iterator[Case]:
    """The states in which a stage is tried."""
    stage = STAGES[name]
    yield Case(f"{name}, fresh", stage, None, "now", ())
    bench.read(stage, "now")
    bench.begin(stage)
    bench.run(stage)
    finished = bench.folder / "bench" / "finished" / name
    shutil.rmtree(finished, ignore_errors=True)
    shutil.copytree(bench.out, finished)
    yield Case(f"{name}, finished", stage, finished, "now", ())
    yield Case(f"{name}, another setting", stage, finished, "now", stage.setting)
    yield Case(f"{name}, another clip", stage, finished, "later", ())


def straight(bench: Bench, case: Case) -> tuple[Case, Straight]:
    """Run a case undisturbed; if it asks for `--overwrite`, that is given from here on."""
    ended = begun(bench, case)
    if ended.code and "--overwrite" in ended.told:
        case = Case(case.name, case.stage, case.begin, case.state, (*case.more, "--overwrite"))
        ended = begun(bench, case)
    left = bench.folder / "bench" / "straight"
    shutil.rmtree(left, ignore_errors=True)
    if bench.out.exists():
        shutil.copytree(bench.out, left)
    return case, Straight(ended, left)


def begun(bench: Bench, case: Case, fault: Fault = UNDISTURBED) -> Ended:
    """Run a case from its beginning."""
    bench.read(case.stage, case.state)
    bench.begin(case.stage, case.begin)
    return bench.run(case.stage, case.more, fault=fault)


def refusal(bench: Bench, case: Case, run: Straight) -> Trial:
    """A case that is refused: with one line, and everything as it was."""
    findings = of_end(run.ended, 2 if run.ended.code == 2 else 1)
    if case.begin is not None:
        findings += of_tree(bench.out, case.begin)
    return Trial("kill", case.name, "refused", tuple(findings))


def again(bench: Bench, case: Case, run: Straight) -> list[Finding]:
    """What is wrong after the same command, given once more."""
    ended = bench.run(case.stage, case.more)
    return [*of_end(ended), *of_tree(bench.out, run.left)]


def moments(run: Straight, short: bool) -> list[Fault]:
    """When to kill: before some changes, and in the middle of some writes."""
    changes = min(IN_SHORT if short else KILLED, len(run.changes))
    writes = min(IN_SHORT if short else WRITES, run.writes)
    before = [
        Fault(change=1 + len(run.changes) * n // changes, signal=signal.SIGKILL) for n in range(changes)
    ]
    within = [Fault(write=1 + run.writes * n // writes, signal=signal.SIGKILL) for n in range(writes)]
    return before + within


def steps(bench: Bench, case: Case) -> Iterator[Program]:
    """Run a case from its beginning, stopped before each of its changes.

    Raises:
        RuntimeError: If it does not end well all the same.
    """
    bench.read(case.stage, case.state)
    bench.begin(case.stage, case.begin)
    program = bench.start(case.stage, case.more, fault=Fault(change=EACH, signal=signal.SIGSTOP))
    while program.stopped():
        yield program
        program.go_on()
    ended = program.wait()
    if ended.code:
        raise RuntimeError(f"{case.name}: stopped now and then, it ends with {ended.code}:\n{ended.told}")


class Left:
    """The folders that a case was left in, each once, and what the same command makes of them."""

    def __init__(self, bench: Bench, case: Case, run: Straight) -> None:
        self.bench, self.case, self.run = bench, case, run
        self._kept = bench.folder / "bench" / "states"
        self._seen: dict[str, tuple[Finding, ...]] = {}
        shutil.rmtree(self._kept, ignore_errors=True)

    def keep(self, folder: Path) -> str:
        """Keep a copy of a folder; its digest."""
        digest = state(folder)
        if folder.exists() and digest not in self._seen and not (self._kept / digest).exists():
            shutil.copytree(folder, self._kept / digest)
        return digest

    def findings(self, digest: str, *, whole: bool = True) -> tuple[Finding, ...]:
        """What is wrong with a folder, and after the same command was given there.

        Args:
            digest: From `keep`.
            whole: Whether a card there must be right.
        """
        if digest not in self._seen:
            restore(self.bench.out, self._kept / digest)
            broken = broken_card(self.bench.out) if whole else []
            self._seen[digest] = (*broken, *again(self.bench, self.case, self.run))
            shutil.rmtree(self._kept / digest, ignore_errors=True)
        return self._seen[digest]


def trials(bench: Bench, name: str, short: bool = False) -> Iterator[Trial]:
    """Stop and kill a stage everywhere."""
    for plain in cases(bench, name):
        case, run = straight(bench, plain)
        if run.ended.code:
            yield refusal(bench, case, run)
            continue
        repeated = straight_again(bench, case, run)
        if repeated:
            yield Trial("kill", case.name, "two undisturbed runs", tuple(repeated))
        left = Left(bench, case, run)
        digests = list(enumerate((left.keep(bench.out) for _ in steps(bench, case)), start=1))
        for number, digest in digests[:: max(1, len(digests) // IN_SHORT)] if short else digests:
            yield Trial("kill", case.name, told(run, Fault(change=number)), left.findings(digest))
        for fault in moments(run, short):
            killed = begun(bench, case, fault)
            findings = [] if killed.code == -signal.SIGKILL else of_end(killed)
            findings += [Finding("rubbish", "its processes still run")] if killed.orphans else []
            findings += left.findings(left.keep(bench.out))
            yield Trial("kill", case.name, f"killed {told(run, fault)}", tuple(findings))


def straight_again(bench: Bench, case: Case, run: Straight) -> list[Finding]:
    """How a second undisturbed run differs: such a case cannot show what a kill changes."""
    begun(bench, case)
    return of_tree(bench.out, run.left)


def told(run: Straight, fault: Fault) -> str:
    """Which moment that is."""
    if fault.write:
        return f"in write {fault.write} of {run.writes}"
    change = run.changes[min(fault.change, len(run.changes)) - 1]
    path = Path(change.other or change.path)
    return f"before change {fault.change} of {len(run.changes)}, {change.what} {path.parent.name}/{path.name}"

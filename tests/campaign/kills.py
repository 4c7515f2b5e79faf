"""SIGKILL before every change of the file system, in every stage; then the same command again.

A stage is tried in a fresh folder, over its own finished work, over work of another setting, and over work on
inputs of which one clip was another. In each, the command is killed before its first change, its second, and
so on to its last, and in the middle of some of its writes. The folder that a kill leaves must hold a whole
store or none; and the command must then end as if nothing had been.
"""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.campaign.findings import Finding, Trial, broken_card, of_end, of_tree, state
from tests.campaign.interception import UNDISTURBED, Change, Fault
from tests.campaign.programs import Ended
from tests.campaign.stages import STAGES, Bench, Stage

WRITES = 12  # in whose middle a stage is killed
IN_SHORT = 2  # changes, and writes, of the short campaign


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
    """When to kill: before each change, and in the middle of some writes."""
    count, writes = len(run.changes), min(IN_SHORT if short else WRITES, run.writes)
    changes = range(1, count + 1)
    if short:
        changes = range(max(1, count // IN_SHORT), count + 1, max(1, count // IN_SHORT))
    before = [Fault(change=number, signal=signal.SIGKILL) for number in changes]
    within = [Fault(write=1 + run.writes * n // writes, signal=signal.SIGKILL) for n in range(writes)]
    return before + within


def trials(bench: Bench, name: str, short: bool = False) -> Iterator[Trial]:
    """Kill a stage everywhere."""
    for plain in cases(bench, name):
        case, run = straight(bench, plain)
        if run.ended.code:
            yield refusal(bench, case, run)
            continue
        repeated = straight_again(bench, case, run)
        if repeated:
            yield Trial("kill", case.name, "two undisturbed runs", tuple(repeated))
        seen: dict[str, tuple[Finding, ...]] = {}
        for fault in moments(run, short):
            killed = begun(bench, case, fault)
            findings = [] if killed.code == -signal.SIGKILL else of_end(killed)
            findings += [Finding("rubbish", "its processes still run")] if killed.orphans else []
            findings += broken_card(bench.out)
            left = state(bench.out)
            if left not in seen:
                seen[left] = tuple(again(bench, case, run))
            yield Trial("kill", case.name, told(run, fault), (*findings, *seen[left]))


def straight_again(bench: Bench, case: Case, run: Straight) -> list[Finding]:
    """How a second undisturbed run differs: such a case cannot show what a kill changes."""
    begun(bench, case)
    return of_tree(bench.out, run.left)


def told(run: Straight, fault: Fault) -> str:
    """Which moment that is."""
    if fault.write:
        return f"in write {fault.write} of {run.writes}"
    change = run.changes[fault.change - 1]
    path = Path(change.other or change.path)
    return f"before change {fault.change} of {len(run.changes)}, {change.what} {path.parent.name}/{path.name}"

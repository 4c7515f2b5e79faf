"""Faults of the machine: a full disk, a broken one, one that cannot be written, no memory, no handles.

Each ends the run with one line and exit code 1, or 2 if another `--out` is asked for. It decides nothing
about any row, and the same command goes on once it is mended.
"""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Callable, Iterator

from tests.campaign.findings import Finding, Trial, broken_card, last_line, of_end
from tests.campaign.interception import UNDISTURBED, Fault
from tests.campaign.kills import Case, Straight, again, cases, straight
from tests.campaign.programs import Ended
from tests.campaign.stages import Bench

SHARES, SHORT_SHARES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99), (0.5,)  # of the bytes that a stage writes
ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
MEMORY = (64, 128, 256, 512)  # MiB above what the process has at its start
HANDLES = (8, 16, 32)  # above those that it has open
NOBODY = 65534


def trials(bench: Bench, name: str, short: bool = False) -> Iterator[Trial]:
    """Try a stage in a fresh folder, and on full disks over its work of another setting as well."""
    for plain in cases(bench, name):
        if "finished" in plain.name or "clip" in plain.name:
            continue
        case, run = straight(bench, plain)
        if run.ended.code:
            continue  # a refusal, which `kills` has tried
        written = sum(
            {change.path: change.size for change in run.ended.changes if change.what == "write"}.values()
        )
        for error in ERRORS[:1] if short else ERRORS:
            for share in SHORT_SHARES if short else SHARES:
                fault = Fault(full_after=int(share * written), error=error)
                told = f"{errno.errorcode[error]} after {share:.0%} of the bytes"
                yield _trial(bench, case, run, told, fault=fault)
        if case.begin is None:
            yield from _limits(bench, case, run, short)


def _limits(bench: Bench, case: Case, run: Straight, short: bool) -> Iterator[Trial]:
    for megabytes in MEMORY[1:2] if short else MEMORY:
        told = f"{megabytes} MiB of memory"
        yield _trial(bench, case, run, told, prepare=lambda size=megabytes: _limit_memory(size))
    for handles in HANDLES[1:2] if short else HANDLES:
        told = f"{handles} open files"
        yield _trial(bench, case, run, told, prepare=lambda count=handles: _limit_handles(count))
    if os.getuid() == 0 and not short:
        told = "a folder that may not be written"
        yield _trial(bench, case, run, told, prepare=_become_nobody, code=2)  # another --out is asked for


def _trial(
    bench: Bench,
    case: Case,
    run: Straight,
    told: str,
    fault: Fault = UNDISTURBED,
    prepare: Callable[[], None] | None = None,
    code: int = 1,
) -> Trial:
    bench.read(case.stage, case.state)
    bench.begin(case.stage, case.begin)
    ended = bench.run(case.stage, case.more, fault=fault, prepare=prepare)
    findings = _of_fault(ended, code) + broken_card(bench.out)
    return Trial("machine", case.name, told, (*findings, *again(bench, case, run)))


def _of_fault(ended: Ended, code: int) -> list[Finding]:
    """A run that ended well had enough; any other ends with this code and a line that says `error:`."""
    findings = of_end(ended, code) if ended.code else of_end(ended)
    if ended.code == code and not last_line(ended.told).startswith("error:"):
        findings.append(Finding("wrong", f"no line says what the machine lacks: {last_line(ended.told)}"))
    return findings


def _limit_memory(megabytes: int) -> None:
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123
        pages = int(file.read().split()[0])
    size = pages * os.sysconf("SC_PAGE_SIZE") + megabytes * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (size, size))


def _limit_handles(count: int) -> None:
    limit = len(os.listdir("/proc/self/fd")) + count  # noqa: PTH208
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))


def _become_nobody() -> None:
    os.setgid(NOBODY)
    os.setuid(NOBODY)

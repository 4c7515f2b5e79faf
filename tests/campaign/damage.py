"""Damage of each kind of file in a finished folder, or in the inputs: empty, cut, a flipped byte, removed.

Given again, the command makes the file again, or one line names it and the way out. In no case are the rows
that come out others than those of an undisturbed run: damage that is taken in silence is what this looks for.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path

from tests.campaign.findings import TOWERS, Finding, Trial, last_line, of_end, of_tree
from tests.campaign.interception import Fault
from tests.campaign.kills import Case, Straight, begun, cases, straight
from tests.campaign.programs import Ended
from tests.campaign.stages import Bench

IN_SHORT = 2  # files a state
# What a finished training does not read again: what it was made from, and the marks of its seeds.
OF_NO_USE = (f"{TOWERS}/*", "checkpoints/*", "features/*", "seed-*/claim.json", "seed-*/whole.json")
# A user's own files have no checksums: other content is other input by right.
USERS_OWN = ("corpus/", "thinker/")
# Files that no result depends on and that are written anew each time.
TOLD_ANEW = ("status.json", "log.jsonl")


def _flip(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 0x01]) + content[middle + 1 :] if content else b"x"


WAYS: dict[str, Callable[[bytes], bytes] | None] = {
    "empty": lambda content: b"",
    "cut": lambda content: content[: len(content) // 2],
    "flipped": _flip,
    "removed": None,
}


def trials(bench: Bench, name: str, short: bool = False) -> Iterator[Trial]:
    """Damage what a stage has finished, what it has begun, and what it reads."""
    fresh, *_ = cases(bench, name)
    case, run = straight(bench, fresh)
    kept = bench.folder / "bench" / "whole"
    shutil.rmtree(kept, ignore_errors=True)
    shutil.copytree(run.left, kept)
    finished, once_more = straight(bench, replace(case, name=f"{name}, finished", begin=kept))
    yield from _of_folder(bench, finished, once_more, short, OF_NO_USE)
    case, run = straight(bench, fresh)
    begun(bench, case, Fault(change=int(0.6 * len(run.changes)), signal=9))
    half = bench.folder / "bench" / "half"
    shutil.rmtree(half, ignore_errors=True)
    shutil.copytree(bench.out, half)
    yield from _of_folder(bench, replace(case, name=f"{name}, half done", begin=half), run, short)
    yield from _of_inputs(bench, replace(case, name=f"{name}, its inputs"), run, short)


def _of_folder(
    bench: Bench, case: Case, run: Straight, short: bool, no_use: Sequence[str] = ()
) -> Iterator[Trial]:
    assert case.begin is not None
    for name in _kinds(case.begin, short):
        for way in WAYS:
            bench.read(case.stage, case.state)
            bench.begin(case.stage, case.begin)
            _spoil(bench.out / name, way)
            ended = bench.run(case.stage, case.more)
            findings = _of(bench, run, ended, name)
            unread = any(fnmatchcase(name, each) for each in no_use)
            if case.stage.begins_as or unread or (name, way) == ("README.md", "flipped"):
                # What nothing is made from any more may stay as it is; a card's prose has no digest.
                own = f"{TOWERS}/" if name.startswith(TOWERS) else f"{name} "
                findings = [finding for finding in findings if not finding.what.startswith(own)]
            yield Trial("damage", case.name, f"{name} {way}", tuple(findings))


def _of_inputs(bench: Bench, case: Case, run: Straight, short: bool) -> Iterator[Trial]:
    bench.read(case.stage, case.state)
    read = bench.inputs / "read"
    for name in _kinds(read, short):
        kept = (read / name).read_bytes()
        for way in WAYS:
            bench.begin(case.stage, case.begin)
            _spoil(read / name, way)
            ended = bench.run(case.stage, case.more)
            (read / name).write_bytes(kept)
            findings = _of(bench, run, ended, name)
            if not ended.code and (name.startswith(USERS_OWN) or f"{Path(name).name}: missing" in ended.told):
                findings = of_end(ended)
            yield Trial("damage", case.name, f"{name} {way}", tuple(findings))


def _of(bench: Bench, run: Straight, ended: Ended, name: str) -> list[Finding]:
    """After damage: the folder is as it was before, or the file is named."""
    if ended.code:
        return _of_refusal(ended, name)
    return [*of_end(ended), *of_tree(bench.out, run.left)]


def _of_refusal(ended: Ended, name: str) -> list[Finding]:
    findings = of_end(ended, None)
    if ended.code and Path(name).name not in ended.told and str(Path(name).parent) not in ended.told:
        findings.append(Finding("wrong", f"the file is not named: {last_line(ended.told)}"))
    return findings


def _kinds(folder: Path, short: bool) -> list[str]:
    """One file of each kind: the first of each folder and suffix, and all at the top of a folder."""
    seen, names = set(), []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder)
        parts = name.parts
        kind = (*parts[:-2], path.suffix) if parts[0] in ("parts", "media", "corpus") else name
        if kind not in seen and path.name not in TOLD_ANEW:
            seen.add(kind)
            names.append(name.as_posix())
    step = max(1, len(names) // IN_SHORT)
    return names[::step][:IN_SHORT] if short else names


def _spoil(path: Path, way: str) -> None:
    change = WAYS[way]
    if change is None:
        path.unlink()
    else:
        path.write_bytes(change(path.read_bytes()))

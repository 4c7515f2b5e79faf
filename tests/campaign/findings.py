"""What a trial must leave, and what is wrong with what it left."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.numpy import load_file

from tests.campaign.programs import Ended

FAULTS = ("lost", "wrong", "hang", "traceback", "rubbish", "executed")
# What says when, how fast and by whom a file was made differs between any two runs.
TIMES = {
    "updated", "rows_per_second", "expected_end", "seconds", "time", "steps_per_second", "train_runtime",
    "train_samples_per_second", "train_steps_per_second", "pid",
}  # fmt: skip
TOWERS = "towers"  # the folder of a tower cache
_ESCAPE = re.compile(r"\x1b(?!\[A).{,4}", re.DOTALL)
_PROCESS = re.compile(r"\.\d+\.")


@dataclass(frozen=True)
class Finding:
    """One thing wrong: one of `FAULTS`, and what it is."""

    fault: str
    what: str


@dataclass(frozen=True)
class Trial:
    """One trial and what was wrong in it.

    Attributes:
        kind: The kind of trial, one of `__main__.KINDS`.
        of: What was tried, such as the stage and the state that it began in.
        name: Which one, such as the change before which it was killed.
        findings: What was wrong; none if all went as it must.
    """

    kind: str
    of: str
    name: str
    findings: tuple[Finding, ...] = ()

    @classmethod
    def of_record(cls, record: dict[str, Any]) -> Trial:
        """From `record`."""
        found = tuple(Finding(**each) for each in record["findings"])
        return cls(record["kind"], record["of"], record["name"], found)

    def record(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)


def of_end(ended: Ended, code: int | None = 0) -> list[Finding]:
    """What is wrong with an end.

    Args:
        ended: The end.
        code: The exit code that it must have; None where it may be 0, 1 or 2.
    """
    findings = []
    if ended.code is None:
        findings.append(Finding("hang", f"no end; its last line: {last_line(ended.told)}"))
    elif code is None and ended.code not in (0, 1, 2):
        findings.append(Finding("lost", f"exit code {ended.code}: {last_line(ended.told)}"))
    elif code is not None and ended.code != code:
        findings.append(Finding("lost", f"exit code {ended.code}, not {code}: {last_line(ended.told)}"))
    if "Traceback (most recent call last)" in ended.told:
        findings.append(Finding("traceback", last_line(ended.told)))
    if ended.orphans:
        findings.append(Finding("rubbish", f"{ended.orphans} of its processes still run"))
    return findings


def of_escapes(ended: Ended) -> list[Finding]:
    """Whether escapes were printed that a terminal obeys, but for those that move a progress bar."""
    found = _ESCAPE.search(ended.told)
    return [Finding("executed", f"a terminal escape is printed: {found.group()!r}")] if found else []


def last_line(told: str) -> str:
    """The last line that is not empty, as far as a table can show it."""
    lines = [line for line in told.splitlines() if line.strip()]
    return repr(lines[-1][:200])[1:-1] if lines else "nothing"


def of_tree(found: Path, wanted: Path) -> list[Finding]:
    """How a folder differs from the one that an undisturbed run leaves."""
    here, there = contents(found), contents(wanted)
    lost = [Finding("lost", f"{name} is missing") for name in sorted(there.keys() - here.keys())]
    rubbish = [Finding("rubbish", f"{name} is left over") for name in sorted(here.keys() - there.keys())]
    both = sorted(here.keys() & there.keys())
    wrong = [Finding("wrong", f"{name} has another content") for name in both if here[name] != there[name]]
    return [*lost, *wrong, *rubbish]


def contents(folder: Path) -> dict[str, str]:
    """A digest of each file by its name, times left out; an empty one of each folder.

    Of a tower cache it is one of each entry: which entries are in one shard depends on when it was written.
    """
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        entries = _entries(path) if path.parent.name == TOWERS else None
        if entries is None:
            found[name] = "" if path.is_dir() else hashlib.sha256(_timeless(path)).hexdigest()
        else:
            found |= {f"{path.parent.relative_to(folder)}/{key}": value for key, value in entries.items()}
    return found


def _entries(path: Path) -> dict[str, str] | None:
    """A digest of each entry of a tower cache's shard; None of what is no whole shard."""
    try:
        tensors = load_file(path)
    except SafetensorError:
        return None
    return {key: hashlib.sha256(tensor.tobytes()).hexdigest() for key, tensor in tensors.items()}


def state(folder: Path) -> str:
    """A digest of a folder; states that differ in the numbers of processes alone are the same."""
    found = sorted((_PROCESS.sub(".N.", name), value) for name, value in contents(folder).items())
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()


def broken_card(folder: Path) -> list[Finding]:
    """What a store's card names and the store does not have."""
    card = folder / "README.md"
    names = re.findall(r"data/[\w-]+\.parquet", card.read_text(errors="replace")) if card.is_file() else []
    return [
        Finding("lost", f"{name}, which the card names") for name in names if not (folder / name).is_file()
    ]


def _timeless(path: Path) -> bytes:
    content = path.read_bytes()
    if path.suffix not in (".json", ".jsonl"):
        return content
    try:
        values = [json.loads(line) for line in _documents(path, content)]
    except ValueError:
        return content
    return json.dumps([_without_times(value) for value in values]).encode()


def _documents(path: Path, content: bytes) -> Iterator[bytes]:
    yield from (content.splitlines() if path.suffix == ".jsonl" else [content])


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_times(each) for key, each in value.items() if key not in TIMES}
    return [_without_times(each) for each in value] if isinstance(value, list) else value

"""The campaign's figures: a table for `docs/reliability.md`, JSON beside it, each finding with its trials."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.campaign.findings import FAULTS, Trial

BEGIN, END = "<!-- campaign: begin -->", "<!-- campaign: end -->"
EXAMPLES = 3  # trials that a finding is shown with
# Numbers of processes and digests, by which alone findings of one kind differ.
_NAMES = re.compile(r"\.\d+\.tmp|[0-9a-f]{12,}|\.tmp\w{6}")


def markdown(trials: Sequence[Trial]) -> str:
    """A row for each kind of trial and what it is of: trials, and those with each fault."""
    rows: dict[tuple[str, str], list[Trial]] = {}
    for trial in trials:
        rows.setdefault((trial.kind, trial.of.partition(",")[0]), []).append(trial)
    lines = [
        f"| trial | of | trials | {' | '.join(FAULTS)} |",
        f"|---|---|---{'|---' * len(FAULTS)}|",
        *(f"| {kind} | {of} | {_cells(own)} |" for (kind, of), own in rows.items()),
        f"| **all** | | {_cells(trials)} |",
    ]
    return "\n".join(lines)


def _cells(trials: Sequence[Trial]) -> str:
    counts = Counter(fault for trial in trials for fault in {each.fault for each in trial.findings})
    return " | ".join(str(number) for number in (len(trials), *(counts[fault] for fault in FAULTS)))


def findings(trials: Iterable[Trial]) -> str:
    """Each kind of finding once: where, how often, and the first trials that show it."""
    shown: dict[tuple[str, str, str, str], list[str]] = {}
    for trial in trials:
        for finding in trial.findings:
            key = (trial.kind, trial.of, finding.fault, _NAMES.sub("…", finding.what))
            shown.setdefault(key, []).append(trial.name)
    lines = [
        f"{kind}: {of}: {fault}: {what} ({len(names)} times: {'; '.join(names[:EXAMPLES])})"
        for (kind, of, fault, what), names in shown.items()
    ]
    return "\n".join(lines)


def write(out: Path, trials: Sequence[Trial], page: Path | None) -> None:
    """Write `campaign.md`, `campaign.json` and `findings.txt`, and the table into a page.

    Args:
        out: The folder.
        trials: All trials.
        page: A page with the two markers; None writes none.
    """
    table = markdown(trials)
    (out / "campaign.md").write_text(f"{table}\n", encoding="utf-8")
    records = [trial.record() for trial in trials]
    (out / "campaign.json").write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")
    (out / "findings.txt").write_text(f"{findings(trials)}\n", encoding="utf-8", errors="replace")
    if page:
        text = page.read_text(encoding="utf-8")
        head, rest = text.split(BEGIN)
        page.write_text(f"{head}{BEGIN}\n{table}\n{END}{rest.split(END)[1]}", encoding="utf-8")

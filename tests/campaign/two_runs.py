"""Two runs in one folder, runs that are asked to stop, and launchers that are killed.

A second run is refused by name while the first one goes on, and changes nothing; the lock of a dead one is
taken over. SIGINT and SIGTERM end a stage with one line; the same command goes on. Workers end with their
launcher.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from pipelines.running.stop_signal import GRACE_S as STOPS_S
from pipelines.running.stop_signal import WATCH_S
from tests.campaign.findings import Finding, Trial, last_line, of_end, of_tree
from tests.campaign.interception import Fault
from tests.campaign.kills import Case, Straight, again, begun, cases, straight
from tests.campaign.programs import GRACE_S, ROOT
from tests.campaign.stages import Bench

MOMENTS, SHORT_MOMENTS = 5, 1  # at which a run is stopped
STARTS_S = 90.0
WORKERS_END_S = WATCH_S + STOPS_S + GRACE_S  # behind the death of their launcher
LAUNCHERS = {
    "torchrun": ("torch.distributed.run", "--standalone", "--nproc_per_node", "2"),
    "accelerate": (
        "accelerate.commands.launch", "--cpu", "--num_processes", "1", "--num_machines", "1",
        "--mixed_precision", "no", "--dynamo_backend", "no",
    ),
}  # fmt: skip
LAUNCHED = {
    "augment": "torchrun",
    "score": "torchrun",
    "finetune": "accelerate",
    "finetune.fusion": "torchrun",
}
LOCKED = ("import", "augment", "score", "finetune", "finetune.fusion")


def trials(bench: Bench, name: str, short: bool = False) -> Iterator[Trial]:
    """Try a stage in a fresh folder."""
    case, run = straight(bench, next(cases(bench, name)))
    count = len(run.changes)
    points = SHORT_MOMENTS if short else MOMENTS
    for number in range(points):
        change = max(2, count * (number + 1) // (points + 1))
        for sent in (signal.SIGTERM, signal.SIGINT):
            yield _stopped(bench, case, run, change, sent)
        if name in LOCKED:
            yield _second(bench, case, run, change)
            yield _status(bench, case, change)
    if name in LAUNCHED and not short:
        for sent in (signal.SIGKILL, signal.SIGTERM):
            yield launched(bench, case, run, LAUNCHED[name], sent)


def _stopped(bench: Bench, case: Case, run: Straight, change: int, sent: signal.Signals) -> Trial:
    ended = begun(bench, case, Fault(change=change, signal=sent))
    findings = of_end(ended, 1) if ended.code else of_end(ended)
    if ended.code == 1 and "same command" not in ended.told:
        findings.append(Finding("wrong", f"nothing says how to go on: {last_line(ended.told)}"))
    name = f"{sent.name} before change {change} of {len(run.changes)}"
    return Trial("two runs", case.name, name, (*findings, *_after_a_stop(bench, case, run)))


def _after_a_stop(bench: Bench, case: Case, run: Straight) -> list[Finding]:
    """As `again`; the checkpoint that the stop itself wrote is one more of those that are kept."""
    return [
        finding
        for finding in again(bench, case, run)
        if not (finding.fault == "rubbish" and finding.what.startswith("checkpoints/"))
    ]


def _second(bench: Bench, case: Case, run: Straight, change: int) -> Trial:
    """Hold the first run, start a second, let the first go on."""
    bench.read(case.stage, case.state)
    bench.begin(case.stage, case.begin)
    first = bench.start(case.stage, case.more, fault=Fault(change=change, signal=signal.SIGSTOP))
    findings = []
    if not first.stopped():
        findings.append(Finding("lost", "the first run ended before it was to be held"))
    second = bench.start(case.stage, case.more, name="second").wait()
    if second.code != 1 or str(first.pid) not in second.told:
        findings.append(
            Finding(
                "wrong", f"a second run is not refused: exit code {second.code}, {last_line(second.told)}"
            )
        )
    with suppress(ProcessLookupError):
        os.kill(first.pid, signal.SIGCONT)
    findings += [*of_end(first.wait()), *of_tree(bench.out, run.left)]
    return Trial("two runs", case.name, f"a second run at change {change}", tuple(findings))


def _status(bench: Bench, case: Case, change: int) -> Trial:
    """`status` of a run that was killed does not say that it runs."""
    begun(bench, case, Fault(change=change, signal=signal.SIGKILL))
    asked = bench.program("pipelines", ["status", str(bench.out)], name="second").wait()
    findings = of_end(asked, None)
    if re.search(r"\brunning\b", asked.told):
        findings.append(Finding("wrong", f"status of a dead run: {last_line(asked.told)}"))
    return Trial("two runs", case.name, f"status after a kill at change {change}", tuple(findings))


def launched(bench: Bench, case: Case, run: Straight, launcher: str, sent: signal.Signals) -> Trial:
    """Start the command by a launcher, kill that, and look for its workers; then the same command again."""
    bench.read(case.stage, case.state)
    bench.begin(case.stage, case.begin)
    given = [part.format(read=bench.inputs / "read", out=bench.out) for part in case.stage.arguments]
    command = [sys.executable, "-m", *LAUNCHERS[launcher], "-m", case.stage.module, *given]
    output = bench.folder / "bench" / "launched"
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    with output.open("w") as file:
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=file, stderr=file, start_new_session=True, env=environment
        )
    workers = _workers(process, bench.out)
    process.send_signal(sent)
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=40)
    findings = [] if workers else [Finding("lost", f"no worker began: {last_line(output.read_text())}")]
    deadline = time.monotonic() + WORKERS_END_S
    while (left := [each for each in workers if _lives(each)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    if left:
        findings.append(Finding("rubbish", f"{len(left)} workers outlive their launcher"))
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    for worker in left:
        with suppress(psutil.NoSuchProcess):
            worker.kill()
    process.wait()
    return Trial(
        "two runs",
        case.name,
        f"{launcher} killed by {sent.name}",
        (*findings, *_after_a_stop(bench, case, run)),
    )


def _workers(process: subprocess.Popen[bytes], out: Path) -> list[psutil.Process]:
    """The launcher's children, once one of them has begun to work in the folder."""
    deadline = time.monotonic() + STARTS_S
    while not (out.exists() and any(out.iterdir())):
        if process.poll() is not None or time.monotonic() > deadline:
            return []
        time.sleep(0.01)
    return psutil.Process(process.pid).children(recursive=True)


def _lives(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.status() != psutil.STATUS_ZOMBIE
    return False

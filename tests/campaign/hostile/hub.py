"""Pushes to a stand-in of the Hub: killed before each request, and answered by what a Hub may answer in need.

After a kill the same command ends as if nothing had been. An answer that passes is tried again; one that does
not is one line. What arrives is what an undisturbed push sends, without this machine's paths.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.campaign.findings import Finding, Trial, last_line, of_end, of_escapes
from tests.campaign.programs import Ended, Program
from tests.campaign.stages import STAGES, Bench
from tests.hub_server import StandInHub, _Handler

TOKEN = "hf_of-the-campaign"
LIMIT_S = 40.0
HTML = b"<html><body>\x1b[31mBad gateway</body></html>"


@dataclass(frozen=True)
class Answer:
    """What the Hub answers instead.

    Attributes:
        status: Of HTTP; 0 closes the connection.
        passes: Whether it is over once it was given; otherwise it is given from then on.
    """

    status: int
    content: bytes = b'{"error": "no"}'
    headers: dict[str, str] = field(default_factory=dict)
    passes: bool = True


ANSWERS = {
    "429": Answer(429, headers={"Retry-After": "1"}),
    "500": Answer(500),
    "502 in HTML": Answer(502, HTML, {"Content-Type": "text/html"}),
    "503": Answer(503),
    "closed": Answer(0),
    "200 in HTML": Answer(200, HTML, {"Content-Type": "text/html"}, passes=False),
    "200 and a list": Answer(200, b"[1]", passes=False),
    "200 and nothing": Answer(200, b"", passes=False),
    "401": Answer(401, passes=False),
    "403 with escapes": Answer(403, b'{"error": "\\u001b[2J"}', {"X-Error-Message": "\x1b[2J"}, passes=False),
    "404": Answer(404, passes=False),
    "429 for a day": Answer(429, headers={"Retry-After": "86400"}, passes=False),
    "500 for ever": Answer(500, passes=False),
    "elsewhere": Answer(302, b"", {"Location": "http://127.0.0.1:9/"}, passes=False),
}  # fmt: skip
GUARDED = (
    "UR-FUNNY",
    "ur_funny",
    "chsims",
    "CH-SIMS v2",
    "cmumosi",
    "CMU_MOSEI",
    "MUStARD++",
    "IEMOCAP_full",
)


class FaultyHub(StandInHub):
    """The stand-in, which answers or does something else at one request.

    Attributes:
        at: The number of the request, from 1.
        instead: What it does; returns an answer, or None for its own.
    """

    def __init__(self, at: int = 0, instead: Callable[[], Answer | None] = lambda: None) -> None:
        super().__init__({TOKEN: "ann"})
        self.at, self.instead, self.count = at, instead, 0
        self._server.RequestHandlerClass = type("Handler", (_FaultyHandler,), {"hub": self})
        self._server.handle_error = lambda *_: None  # a client that was killed


class _FaultyHandler(_Handler):
    hub: Any

    def _answer(self, method: str) -> None:
        hub = self.hub
        hub.count += 1
        answer = hub.instead() if hub.at and hub.count >= hub.at else None
        if answer is None or (answer.passes and hub.count > hub.at):
            super()._answer(method)
            return
        self._read_body()
        if answer.status == 0:
            self.close_connection = True
            return
        self.send_response(answer.status)
        for name, value in {**answer.headers, "Content-Length": str(len(answer.content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if method != "HEAD":
            self.wfile.write(answer.content)


def trials(bench: Bench, _: str = "", short: bool = False) -> Iterator[Trial]:
    """Push a finished store."""
    bench.read(STAGES["report"], "now")
    store = bench.inputs / "read" / "scored"
    with FaultyHub() as hub:
        ended = _push(bench, hub, store)
        wanted, requests = _files(hub), hub.count
    yield Trial("push", "push", "undisturbed", (*of_end(ended), *_paths(wanted, bench.folder)))
    for number in range(1, requests + 1, 4 if short else 1):
        yield _killed(bench, store, number, wanted)
        for name, answer in ANSWERS.items() if not short else [("429", ANSWERS["429"])]:
            yield _answered(bench, store, number, name, answer, wanted)
    for corpus in GUARDED[: 1 if short else None]:
        yield _guarded(bench, corpus)


def _killed(bench: Bench, store: Path, number: int, wanted: dict[str, bytes]) -> Trial:
    pids: list[int] = []

    def kill() -> None:
        if pids:
            os.kill(pids.pop(), signal.SIGKILL)
            time.sleep(0.05)

    with FaultyHub(number, kill) as hub:
        program = _started(bench, hub, store)
        pids.append(program.pid)
        killed = program.wait(LIMIT_S)
        findings = [] if killed.code == -signal.SIGKILL else of_end(killed)
        findings += [*of_end(_push(bench, hub, store)), *_differences(_files(hub), wanted)]
    return Trial("push", "push, killed", f"at request {number}", tuple(findings))


def _answered(
    bench: Bench, store: Path, number: int, name: str, answer: Answer, wanted: dict[str, bytes]
) -> Trial:
    with FaultyHub(number, lambda: answer) as hub:
        ended = _push(bench, hub, store)
        findings = of_end(ended) if answer.passes else of_end(ended, None)
        if ended.code and not last_line(ended.told).startswith("error:"):
            findings.append(Finding("wrong", f"its last line is no error: {last_line(ended.told)}"))
        findings += of_escapes(ended)
        if TOKEN in ended.told:
            findings.append(Finding("executed", "the access token is printed"))
        hub.at = 0
        findings += [*of_end(_push(bench, hub, store)), *_differences(_files(hub), wanted)]
    return Trial("push", "push, answered", f"{name} at request {number}", tuple(findings))


def _guarded(bench: Bench, corpus: str) -> Trial:
    """A corpus whose terms forbid a push, in one of its spellings, is refused."""
    ended = bench.program(
        "tests.campaign.hostile.hub", [str(bench.out), corpus], prepare=lambda: shutil.rmtree(bench.out, True)
    ).wait()
    told = bench.program("pipelines", ["push", str(bench.out), "ann/clips", "--dry-run"]).wait()
    findings = of_end(ended) + of_end(told, 2)
    return Trial("push", "push, guarded corpora", corpus, tuple(findings))


def _started(bench: Bench, hub: StandInHub, store: Path) -> Program:
    def aim() -> None:
        from huggingface_hub import constants

        # They were read when this process' parent imported them.
        constants.ENDPOINT, constants.HF_HUB_OFFLINE = hub.endpoint, False

    there = {"HF_ENDPOINT": hub.endpoint, "HF_TOKEN": TOKEN, "HF_HUB_OFFLINE": "0"}
    given = ["push", str(store), "ann/clips"]
    return bench.program("pipelines", given, variables=there, prepare=aim)


def _push(bench: Bench, hub: StandInHub, store: Path) -> Ended:
    return _started(bench, hub, store).wait(LIMIT_S)


def _files(hub: StandInHub) -> dict[str, bytes]:
    repository = hub.repositories.get("ann/clips")
    return {name: file.content for name, file in repository.files.items()} if repository else {}


def _differences(found: dict[str, bytes], wanted: dict[str, bytes]) -> list[Finding]:
    lost = [Finding("lost", f"{name} is not on the Hub") for name in wanted.keys() - found.keys()]
    more = [Finding("rubbish", f"{name} is left on the Hub") for name in found.keys() - wanted.keys()]
    both = found.keys() & wanted.keys()
    wrong = [Finding("wrong", f"{name} differs on the Hub") for name in both if found[name] != wanted[name]]
    return [*lost, *more, *wrong]


def _paths(files: dict[str, bytes], folder: Path) -> list[Finding]:
    text = str(folder).encode()
    return [Finding("wrong", f"{name} names a path of this machine") for name in files if text in files[name]]


def main(folder: Path, corpus: str) -> None:
    """Make a store of one row of a corpus."""
    from tests import tiny

    tiny.store(folder, [tiny.row(0, corpus=corpus)])


if __name__ == "__main__":
    import sys

    main(Path(sys.argv[1]), sys.argv[2])

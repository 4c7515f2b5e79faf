"""Every call that a push makes, under every fault: it is tried again within limits, or ends in one line."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import traceback
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from pipelines.hub.push import push
from pipelines.hub.request_retries import LONGEST_WAIT_S, TRIES, PushError, told, wait_asked
from pipelines.row import digest
from pipelines.store import commit
from tests.hub_server import Fault, Repository, StandInHub, Stored
from tests.pipelines.hub.conftest import SETTINGS, TOKEN, make_store, rows

REPO = "ann/clips"
HTML = b"<!DOCTYPE html>\n<html><body><h1>Bad gateway</h1>\n" + b"<p>nginx</p>\n" * 50 + b"</body></html>"
PAGE = {"Content-Type": "text/html"}
JSON = {"Content-Type": "application/json"}
FILES = ("put_object", "verify")  # made by several threads
LEAST_CALLS = {
    "whoami", "create", "info", "tree", "validate_yaml", "preupload", "batch", "put_object", "verify",
    "commit",
}  # fmt: skip

PASSING = {
    "429": Fault("", status=429),
    "429 for 7 s": Fault("", status=429, headers={"Retry-After": "7"}),
    "500": Fault("", status=500, content=b'{"error": "Internal"}', headers=JSON),
    "502 with a proxy's page": Fault("", status=502, headers=PAGE, content=HTML),
    "503 for 3 s": Fault("", status=503, headers={"Retry-After": "3"}),
    "504": Fault("", status=504, headers=PAGE, content=HTML),
    "522": Fault("", status=522),
    "408": Fault("", status=408),
    "reset before it happens": Fault("", status=200, keep=-1),
    "reset in the body": Fault("", status=200, content=b"{" + b" " * 4000, keep=0.5),
    "its answer is lost": Fault("", keep=-1),
    "its answer is cut": Fault("", keep=0.4),
    "several, one after another": Fault("", status=503, times=TRIES - 1),
}


class Trial:
    """A store and the repository that a push makes of it; `again` makes a second push delete files, too."""

    def __init__(self, hub: StandInHub, store: Path, again: bool) -> None:
        self.hub, self.store, self.again = hub, store, again
        self.said: list[str] = []
        self.start()
        self.push()
        # `harnesses` the client can do without, and asks for it once only.
        calls = dict.fromkeys(request.call for request in hub.requests)
        self.calls = [call for call in calls if call != "harnesses"]
        self.clean = dict(self.repository.files)

    @property
    def repository(self) -> Repository:
        return self.hub.repositories[REPO]

    def start(self) -> None:
        """The Hub as it is before the push."""
        self.hub.repositories.clear()
        self.hub.objects.clear()
        self.hub.faults.clear()
        if self.again:
            old = {
                "data/train-old-00000.parquet": Stored(b"old", lfs=True),
                "LICENSE": Stored(b"l", lfs=False),
            }
            self.hub.repositories[REPO] = Repository(private=True)
            self.repository.commit(old)
        self.hub.requests.clear()
        self.said.clear()

    def push(self) -> str | None:
        return push(self.store, REPO, token=TOKEN, say=self.said.append)

    def fails(self) -> str:
        """Push, and the one line that says why it fails."""
        line = self.outcome()
        assert line is not None
        return line

    def outcome(self) -> str | None:
        """Push, and the one line that says why it fails; None if it does not."""
        try:
            self.push()
        except PushError as error:
            line, shown = str(error), "".join(traceback.format_exception(error))
        else:
            line, shown = None, ""
        assert line is None or (line.isprintable() and len(line) < 1000), line
        assert TOKEN not in "\n".join([shown, *self.said])
        return line

    def requests(self, call: str) -> int:
        return sum(request.call == call for request in self.hub.requests)


@pytest.fixture(params=[True, False], ids=["second push", "first push"])
def trial(here: StandInHub, waits: list[float], tmp_path: Path, request: pytest.FixtureRequest) -> Trial:
    trial = Trial(here, make_store(tmp_path / "store", count=3), request.param)
    assert set(trial.calls) >= LEAST_CALLS
    assert "" not in trial.calls, "a call that the stand-in does not know"
    return trial


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
def test_every_call_is_tried_again(trial: Trial, waits: list[float], fault: Fault) -> None:
    for call in trial.calls:
        trial.start()
        waits.clear()
        trial.hub.faults = [replace(fault, call=call)]
        url = trial.push()
        assert url == f"{trial.hub.endpoint}/datasets/{REPO}/commit/{trial.repository.head}"
        assert trial.repository.files == trial.clean, call
        assert len(waits) == fault.times, call
        assert min(waits) >= float(fault.headers.get("Retry-After", 0))
        lines = [line for line in trial.said if f"; try 2 of {TRIES} in " in line]
        assert len(lines) == 1 or call in FILES, call


@pytest.mark.parametrize("trial", [True], indirect=True, ids=["second push"])
def test_a_silent_call_is_tried_again(
    trial: Trial, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.hub.request_retries.SILENCE_S", 0.3)
    for call in trial.calls:
        trial.start()
        trial.hub.faults = [Fault(call, delay_s=1.0)]
        trial.push()
        assert trial.repository.files == trial.clean, call
        assert any("ReadTimeout" in line for line in trial.said), call


LASTING = [
    Fault("", status=503),
    Fault("", status=429, headers={"Retry-After": str(int(LONGEST_WAIT_S))}),
    Fault("", status=502, headers=PAGE, content=HTML),
    Fault("", status=200, keep=-1),
    Fault("", status=409, content=b"Cannot create repo: another conflicting operation is in progress"),
]


@pytest.mark.parametrize("fault", LASTING, ids=["503", "429", "page", "reset", "conflict"])
def test_tries_end_in_one_line_and_the_same_push_goes_on(
    trial: Trial, waits: list[float], fault: Fault
) -> None:
    for call in trial.calls:
        trial.start()
        waits.clear()
        trial.hub.faults = [replace(fault, call=call, times=1000)]
        line = trial.fails()
        tried = trial.requests(call)
        assert tried == TRIES or (call in FILES and tried % TRIES == 0), (call, tried)
        assert f", {TRIES} times; run the same command again" in line
        assert sum(waits) <= (TRIES - 1) * LONGEST_WAIT_S * tried / TRIES
        trial.hub.faults.clear()
        trial.push()
        assert trial.repository.files == trial.clean, call


@pytest.mark.parametrize("trial", [True], indirect=True, ids=["second push"])
def test_a_hub_that_is_not_there(trial: Trial, waits: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    assert "ConnectError" in trial.fails()
    assert len(waits) == TRIES - 1
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://[bad")
    assert "broke off" in trial.fails()


NOW = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)


def date(seconds: float) -> str:
    """A date of HTTP, so many seconds from `NOW`."""
    return format_datetime(NOW + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize(
    ("headers", "least", "most"),
    [
        ({"Retry-After": "120"}, 120, 120),
        ({"Retry-After": " 0 "}, 0, 0),
        ({"Retry-After": date(100)}, 100, 100),
        ({"Retry-After": date(-100)}, 0, 0),
        # The server's clock is an hour ahead, and its wait is of 60 s.
        ({"Retry-After": date(3660), "Date": date(3600)}, 60, 60),
        ({"Retry-After": date(3600)}, 3600, 3600),
        ({"Retry-After": "Fri, 31 Dec 9999 23:59:59 GMT"}, 1e9, float("inf")),
        ({"Retry-After": "9" * 400}, 1e300, float("inf")),
        ({"Retry-After": "9" * 5000}, 1e300, float("inf")),
        ({"RateLimit": '"api";r=0;t=55'}, 55, 57),
        ({"RateLimit": '"api";r=10;t=55'}, 0, 0),
        ({"RateLimit": '"api";r=0;t=55', "Retry-After": "99"}, 99, 99),
        *(
            ({"Retry-After": value}, 0, 0)
            for value in (
                "-5",
                "1e9",
                "nan",
                "inf",
                "7.5",
                "²",
                "soon",
                "",
                "Fri, 99 Foo 2026",
                "0x10",
                "1, 2",
            )
        ),
    ],
)
def test_waits_that_servers_ask_for(
    headers: dict[str, str], least: float, most: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub.utils import httpx

    encoded = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    monkeypatch.setattr("pipelines.hub.request_retries.time", lambda: NOW.timestamp())
    assert least <= max(0.0, wait_asked(httpx.Headers(encoded))) <= most


@pytest.mark.parametrize("trial", [True], indirect=True, ids=["second push"])
@pytest.mark.parametrize("value", ["301", "86400", "9" * 30, "9" * 5000, "a date"])
def test_a_wait_that_is_too_long_is_told_and_not_waited(trial: Trial, waits: list[float], value: str) -> None:
    if value == "a date":  # the stand-in tells its own time as well
        value = format_datetime(datetime.now(UTC) + timedelta(seconds=40_000), usegmt=True)
    for call in trial.calls:
        trial.start()
        trial.hub.faults = [Fault(call, times=1000, status=429, headers={"Retry-After": value})]
        line = trial.fails()
        assert "and a push waits for 300 s at most; run the same command again" in line
        assert waits == []


UNUSABLE = {
    "page": (PAGE, HTML),
    "nothing": ({}, b""),
    "cut JSON": (JSON, b'{"sha": "0000000000000000000000000000000000000000", "fi'),
    "list": (JSON, b"[]"),
    "list of text": (JSON, b'["a", 1]'),
    "null": (JSON, b"null"),
    "text": (JSON, b'"ok"'),
    "other object": (JSON, b'{"id": 1, "files": 5, "objects": {"a": 1}, "siblings": 7, "warnings": 3}'),
    "bytes": (JSON, b"\xff\xfe\x00{"),
    "no gzip": (JSON | {"Content-Encoding": "gzip"}, b"{}"),
    "deep": (JSON, b"[" * 100_000),
    "nowhere": (JSON | {"Location": "http://[bad"}, b"{}"),
}


ANSWERS = [(200, answer) for answer in UNUSABLE] + [
    (status, answer) for status in (302, 400, 401, 403, 404, 422) for answer in ("page", "list", "nowhere")
]


@pytest.mark.parametrize("trial", [True], indirect=True, ids=["second push"])
@pytest.mark.parametrize(("status", "answer"), ANSWERS)
def test_answers_that_are_none(trial: Trial, status: int, answer: str) -> None:
    headers, content = UNUSABLE[answer]
    for call in trial.calls:
        trial.start()
        trial.hub.faults = [Fault(call, times=1000, status=status, headers=headers, content=content)]
        # Of these the client takes nothing that the push needs.
        assert trial.outcome() or call in ("whoami", "create", "put_object", "verify", "validate_yaml"), call
    trial.hub.faults.clear()
    trial.push()
    assert trial.repository.files == trial.clean


def test_killed_at_any_call_and_pushed_again(trial: Trial) -> None:
    program = (
        "import sys; from pathlib import Path; from pipelines.hub.push import push;"
        f"push(Path(sys.argv[1]), {REPO!r}, token={TOKEN!r})"
    )
    online = {"HF_ENDPOINT": trial.hub.endpoint, "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0"}
    for call in ("create", "put_object", "commit"):
        trial.start()
        with subprocess.Popen(
            [sys.executable, "-c", program, str(trial.store)],
            env=os.environ | online | {"HF_HOME": str(trial.store.parent)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as client:
            # The Hub goes on with the call.
            trial.hub.faults = [Fault(call, before=lambda client=client: client.send_signal(signal.SIGKILL))]
            assert client.wait(60) == -signal.SIGKILL
        trial.push()
        assert trial.repository.files == trial.clean, call


def test_a_repository_that_somebody_else_changes_is_left_to_them(trial: Trial) -> None:
    for call in trial.calls[trial.calls.index("tree") : trial.calls.index("commit") + 1]:
        trial.start()
        theirs = {"README.md": Stored(b"theirs", lfs=False)}

        def change(theirs: dict[str, Stored] = theirs) -> None:
            trial.repository.commit(trial.repository.files | theirs)

        trial.hub.faults = [Fault(call, before=change)]
        assert "was changed by somebody else meanwhile, so nothing was committed" in trial.fails()
        assert trial.repository.files["README.md"].content == b"theirs"
        trial.push()
        assert trial.repository.files == trial.clean, call


def test_a_store_that_changes_is_refused_or_pushed_as_it_was(trial: Trial) -> None:
    for number, call in enumerate(trial.calls):
        store = make_store(trial.store.parent / call, count=3)
        trial.store = store
        trial.start()
        trial.push()
        pushed = dict(trial.repository.files)
        trial.start()
        before = trial.hub.repositories.get(REPO)
        before = dict(before.files) if before else {}

        def change(store: Path = store, generation: str = f"other {number}") -> None:
            commit(store, rows("puppets", 5), generation=digest(generation), settings=SETTINGS)

        trial.hub.faults = [Fault(call, before=change)]
        line = trial.outcome()
        if trial.calls.index(call) < trial.calls.index("validate_yaml"):
            assert "was changed while it was pushed, so it was not committed" in str(line), call
            found = trial.hub.repositories.get(REPO)
            assert (found.files if found else {}) == before, call
        else:
            assert line is None, call
            assert trial.repository.files == pushed, call


def test_a_store_of_which_only_a_record_changes_is_refused(trial: Trial) -> None:
    trial.start()
    record = trial.store / "settings.json"
    trial.hub.faults = [Fault("batch", before=lambda: record.write_text('{"stage": "another"}'))]
    assert "was changed while it was pushed" in trial.fails()


@pytest.mark.parametrize("trial", [True], indirect=True, ids=["second push"])
def test_no_token_is_shown(
    trial: Trial, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Not even one that a server gives back, in a header, a body or an address."""
    caplog.set_level(logging.DEBUG)
    echo = f"\x1b[31mno Bearer {TOKEN} here"
    body = f'{{"error": "{TOKEN}", "errors": [{{"message": "{TOKEN}"}}]}}'.encode()
    headers = {
        "X-Error-Message": echo, "X-Request-Id": TOKEN, "X-HF-Warning": f"a; {TOKEN}", "Retry-After": "1",
        "Location": f"{trial.hub.endpoint}/x?token={TOKEN}", "Content-Type": TOKEN,
    }  # fmt: skip
    for status in (200, 302, 400, 401, 403, 404, 412, 429):
        for call in trial.calls:
            trial.start()
            trial.hub.faults = [Fault(call, times=1000, status=status, headers=headers, content=body)]
            trial.outcome()
    shown = capfd.readouterr()
    assert TOKEN not in shown.out + shown.err
    assert TOKEN not in caplog.text


@pytest.mark.parametrize("token", ["hf_two\nlines", "hf_\x01control", "hf_é", "hf_ space ", "hf_\x00"])
def test_a_token_that_is_none_is_not_shown(here: StandInHub, tmp_path: Path, token: str) -> None:
    with pytest.raises(PushError) as caught:
        push(make_store(tmp_path / "store"), REPO, token=token, say=lambda _: None)
    shown = "".join(traceback.format_exception(caught.value))
    assert str(caught.value).isprintable()
    for part in (token, repr(token)[1:-1], "hf_"):
        assert part not in shown


def test_addresses_with_a_password_or_a_signature() -> None:
    line = told(
        "PUT https://ann:s3cret@hub.example/a/b?X-Amz-Signature=123&token=x failed\x1b[0m\n"
        "Authorization: Bearer abc.def hf_0123456789012345678901234567890123",
        None,
    )
    assert line == "PUT https://hub.example/a/b failed [0m Authorization: <token>"
    assert told("ann/hf_dataset " * 60, None).startswith("ann/hf_dataset ")
    assert len(told("x" * 10_000, None)) < 700


def test_what_the_client_asks_for_its_statistics_ends_no_push(
    here: StandInHub, waits: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.utils._detect_agent._registry", None, raising=False)
    here.faults = [Fault("harnesses", times=1000, status=503)]
    assert push(make_store(tmp_path / "store"), REPO, token=TOKEN, say=lambda _: None)
    assert waits == []


def test_an_answer_that_the_client_has_kept_ends_no_push(
    here: StandInHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tmp_path / "agent-harnesses.json"
    kept.write_text("[1]")
    monkeypatch.setattr("huggingface_hub.constants.AGENT_HARNESSES_PATH", str(kept), raising=False)
    monkeypatch.setattr("huggingface_hub.utils._detect_agent._registry", None, raising=False)
    assert push(make_store(tmp_path / "store"), REPO, token=TOKEN, say=lambda _: None)


def test_the_client_is_as_before(trial: Trial) -> None:
    from huggingface_hub import get_session

    assert "request" not in vars(get_session())
    assert all(not handler.filters for handler in logging.getLogger("huggingface_hub").handlers)

"""The Hub's client, made patient: each of its calls is tried again, and what goes wrong becomes one line.

huggingface_hub tries some of its calls again, waits as long as a server says, and never ends a call that gets
no answer. Here all of them, also those of later versions, go through one loop with limits: `TRIES`,
`LONGEST_WAIT_S` and `SILENCE_S`. Files that its Xet client sends (in Rust) are tried again by the rules of
that client.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from pathlib import Path
from time import sleep, time
from typing import Any

from huggingface_hub import constants, errors, get_session, get_token
from huggingface_hub.utils import httpx, parse_ratelimit_headers

from pipelines.errors import RunError
from pipelines.running.machine_faults import refuse_fault

TRIES = 6
LONGEST_WAIT_S = 300.0
"""The Hub counts requests in windows of five minutes, so a longer wait is not for its limits."""
DISPENSABLE = ("/api/agent-harnesses",)
"""Calls of huggingface_hub 2 without whose answer it goes on; they are tried once."""
SILENCE_S = 120.0
"""A connection without a byte for so long is taken for a dropped one."""

_DROPPED = (httpx.TimeoutException, httpx.NetworkError, httpx.RemoteProtocolError, httpx.ProxyError)


class PushError(RunError):
    """A store could not be pushed, or its files on the Hub differ from those that were sent."""


class _GaveUp(Exception):
    """A call failed each time that it was tried, or its server asks for more patience than there is."""


class _Patient:
    """Makes the requests of a client, each until it is answered; `last` tells of the last answer."""

    def __init__(self, request: Callable[..., Any], say: Callable[[str], None]) -> None:
        self.request, self.say = request, say
        self.last = "the Hub"

    def __call__(self, method: str, url: Any, **options: Any) -> Any:
        """As `httpx.Client.request`.

        Raises:
            _GaveUp: If it was tried `TRIES` times (once, if it is `DISPENSABLE`), or is to be tried again
                after `LONGEST_WAIT_S` only.
        """
        if not isinstance(options.get("timeout"), int | float | httpx.Timeout):  # none is for ever
            options["timeout"] = httpx.Timeout(SILENCE_S)
        name = f"{method} {httpx.URL(str(url)).path}"
        files = [options[key] for key in ("data", "content") if hasattr(options.get(key), "seek")]
        starts = [file.tell() for file in files]
        tries = 1 if name.endswith(DISPENSABLE) else TRIES
        for attempt in range(1, tries + 1):
            for file, start in zip(files, starts, strict=True):
                file.seek(start)
            asked = 0.0
            try:
                response = self.request(method, url, **options)
            except _DROPPED as error:
                fault = f"{name}: no answer ({type(error).__name__}: {error})"
            else:
                self.last = f"{name} ({response.headers.get('Content-Type', 'no type')})"
                if not _is_passing(response):
                    return response
                fault, asked = f"{name}: HTTP {response.status_code}", wait_asked(response.headers)
            if attempt < tries:
                self._wait(fault, max(asked, 2.0 ** (attempt - 1)), attempt)
        raise _GaveUp(f"{fault}, {tries} times")

    def _wait(self, fault: str, wait_s: float, attempt: int) -> None:
        if wait_s > LONGEST_WAIT_S:
            raise _GaveUp(
                f"{fault}, to be tried again in {wait_s:,.0f} s, and a push waits for {LONGEST_WAIT_S:.0f} s"
                " at most"
            )
        self.say(f"{fault}; try {attempt + 1} of {TRIES} in {wait_s:.0f} s")
        sleep(wait_s)


def _is_passing(response: Any) -> bool:
    """Whether the same request may be answered otherwise later."""
    status = response.status_code
    # The client itself repeats this one at once and for ever.
    creating = status == 409 and "conflicting operation is in progress" in response.text
    return status in (408, 429) or status >= 500 or creating


def wait_asked(headers: Mapping[str, str]) -> float:
    """Seconds to wait that a server asks for, by `Retry-After` or the Hub's `RateLimit`; 0 if for none."""
    text = headers.get("Retry-After", "").strip()
    waits = [0.0]
    if re.fullmatch(r"[0-9]+", text):
        waits.append(float(text))
    elif text:
        waits.append(_seconds_until(text, headers.get("Date")))
    limit = parse_ratelimit_headers(headers)
    if limit and limit.remaining == 0:
        waits.append(limit.reset_in_seconds + 1.0)  # it is rounded
    return max(waits)


def _seconds_until(date: str, now: str | None) -> float:
    """Seconds from the server's `now`, or else from this machine's, to a date of HTTP; 0 if it is none."""
    try:
        then = parsedate_to_datetime(date).timestamp()
        return then - (parsedate_to_datetime(now).timestamp() if now else time())
    except (ValueError, OverflowError):
        return 0.0


def told(text: object, token: str | None) -> str:
    """What the Hub or its client says, as one line to print.

    Access tokens, passwords and signatures in addresses, control characters, and all behind 600 characters
    are left out.
    """
    line = re.sub(r"(https?://[^\s'\"?]*)\?[^\s'\"]*", r"\1", str(text))
    line = re.sub(r"(?<=//)[^\s/@]+@", "", line)
    for secret in {token, repr(token)[1:-1]} if token else ():
        line = line.replace(secret, "<token>")
    line = re.sub(r"(?i)\bbearer\s+[^'\"]+", "<token>", line)
    line = re.sub(r"\bhf_(?:[A-Za-z0-9]{20,}|(?:oauth|jwt)_[^\s'\"]+)", "<token>", line)
    line = " ".join("".join(each if each.isprintable() else " " for each in line).split())
    return line if len(line) <= 600 else f"{line[:600]}…"


class _WithoutToken(logging.Filter):
    """Rids records of what `told` leaves out."""

    def __init__(self, token: str | None) -> None:
        super().__init__()
        self.token = token

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = told(record.getMessage(), self.token), ()
        return True


@contextmanager
def patience(repo_id: str, token: str | None, say: Callable[[str], None]) -> Iterator[None]:
    """Within the block, huggingface_hub's calls are tried again, and its errors say what to do next.

    Args:
        repo_id: The repository that is pushed to.
        token: The access token; None is the one that huggingface_hub finds.
        say: Prints a line for each call that is tried again.

    Raises:
        PushError: If the Hub refuses, cannot be reached or gives answers that are none.
        MachineFault: If this machine lacks memory, disk or the like.
    """
    _forget_kept_answer()
    token = token or get_token()
    session = get_session()
    patient = _Patient(session.request, lambda line: say(told(line, token)))
    hiding = _WithoutToken(token)
    handlers = [*logging.getLogger("huggingface_hub").handlers, *logging.getLogger().handlers]
    for handler in handlers:
        handler.addFilter(hiding)
    # All calls of huggingface_hub end in this method; a factory of its clients could not be put back.
    session.request = patient  # type: ignore[method-assign]
    try:
        yield
    except PushError as error:
        raise PushError(told(error, token)) from None
    except (RunError, MemoryError):
        raise
    except Exception as error:
        line = _explanation(error, repo_id, patient.last)
        if line is None:
            raise
        raise PushError(told(line, token)) from None  # the causes may hold the token
    finally:
        del session.request
        for handler in handlers:
            handler.removeFilter(hiding)


def _forget_kept_answer() -> None:
    """Remove the one answer that huggingface_hub 2 keeps for a day, a list of agents.

    It keeps whatever a proxy answered in the Hub's place, and then fails at each call.
    """
    kept = getattr(constants, "AGENT_HARNESSES_PATH", None)
    if kept is not None:
        Path(kept).unlink(missing_ok=True)


def _explanation(error: Exception, repo_id: str, last: str) -> str | None:
    """What an error of the client means and what to do next; None if it is none of the client's."""
    again = "run the same command again: what has arrived is not sent twice"
    hub = constants.ENDPOINT
    if isinstance(error, errors.LocalTokenNotFoundError):
        return "the Hub needs a token: log in with `hf auth login`, or set HF_TOKEN"
    if isinstance(error, errors.OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set, so nothing can be pushed; unset it and push again"
    given_up = _cause(error, _GaveUp)
    if given_up:
        return f"the push to {repo_id} on {hub} broke off at {given_up}; {again} later"
    refusal = _cause(error, errors.HfHubHTTPError)
    if isinstance(refusal, errors.HfHubHTTPError):
        return f"{hub} refused the push to {repo_id}: {_next_step(refusal, repo_id)}"
    if isinstance(error, OSError | RuntimeError):
        refuse_fault(error, f"push to {repo_id}")
    if isinstance(error, errors.HTTPError | httpx.InvalidURL | OSError | RuntimeError):
        what = f"{type(error).__name__}: {error}"
        return f"the push to {repo_id} on {hub} broke off ({what}); {again}"
    if isinstance(error, ValueError | LookupError | TypeError | AttributeError):
        # The client takes answers apart as if they were always the Hub's.
        what = f"{type(error).__name__}: {error}"
        return (
            f"the push to {repo_id} on {hub} broke off at {last}: the answer is of no use ({what}); if a"
            f" proxy or another HF_ENDPOINT answers for the Hub, mend that; then {again}"
        )
    return None


def _cause(error: BaseException | None, kind: type[Exception]) -> BaseException | None:
    while error is not None and not isinstance(error, kind):
        error = error.__cause__
    return error


def _next_step(error: errors.HfHubHTTPError, repo_id: str) -> str:
    steps = {
        401: "it does not accept the access token; log in again with `hf auth login`, or renew HF_TOKEN",
        403: f"the access token may not write to {repo_id.split('/')[0]!r}; use one that may",
        404: "no such repository for this account; check the name and whose token it is",
    }
    status = error.response.status_code
    other = f"HTTP {status}, {error.server_message or 'no reason given'}; run the same command again"
    # Files are sent to other servers, which know nothing of tokens.
    return steps.get(status, other) if str(error.response.url).startswith(constants.ENDPOINT) else other

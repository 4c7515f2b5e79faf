"""Programs end with the run that started them; a signal stops them where they can be resumed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from pipelines.errors import RunError, UsageError
from pipelines.running.launching import launch

ROOT = Path(__file__).resolve().parents[3]
RANKS = "import os, sys; open(sys.argv[1] + os.environ['RANK'], 'w').write(os.environ['WORLD_SIZE'])"
# Starts programs, each of which says that it is there and then waits to be stopped.
PROGRAM = """
import os, sys, time
from pipelines.errors import call
def main(argv):
    open(os.path.join(argv[0], f"{os.getpid()}"), "w").close()
    time.sleep(60)
call(main)
"""
RUN = """
import sys
from pipelines.errors import call
from pipelines.running.launching import launch
call(lambda argv: launch("score", ["-c", argv[0], argv[1]], processes=2))
"""


def wait_for(condition: object, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_each_process_gets_its_rank(tmp_path: Path) -> None:
    launch("score", ["-c", RANKS, f"{tmp_path}/"], processes=3)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"0": "3", "1": "3", "2": "3"}


@pytest.mark.parametrize(("code", "error"), [("3", RunError), ("2", UsageError)])
def test_one_that_fails_stops_the_others(code: str, error: type[Exception]) -> None:
    body = f"import os, sys, time; sys.exit({code}) if os.environ['RANK'] == '1' else time.sleep(60)"
    began = time.monotonic()
    with pytest.raises(error, match="score"):
        launch("score", ["-c", body], processes=2)
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_programs_end_with_their_run(number: signal.Signals, tmp_path: Path) -> None:
    command = [sys.executable, "-c", RUN, PROGRAM, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as run:
        wait_for(lambda: len(list(tmp_path.iterdir())) == 2)
        programs = [int(path.name) for path in tmp_path.iterdir()]
        run.send_signal(number)
        _, said = run.communicate(timeout=30)
    wait_for(lambda: not any(map(alive, programs)), 10)
    assert "Traceback" not in said
    if number != signal.SIGKILL:
        assert run.returncode == 1
        assert f"error: score was stopped by {number.name}" in said


def test_ctrl_c_in_a_terminal_reaches_all_and_each_stops_once(tmp_path: Path) -> None:
    command = [sys.executable, "-c", RUN, PROGRAM, str(tmp_path)]
    with subprocess.Popen(
        command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as run:
        wait_for(lambda: len(list(tmp_path.iterdir())) == 2)
        os.killpg(run.pid, signal.SIGINT)
        _, said = run.communicate(timeout=30)
    assert run.returncode == 1
    assert said.count("error: stopped; the same command goes on") == 2
    assert "Traceback" not in said


# Both signals have come before Python runs the handler of the first.
AT_ONCE = """
import signal, threading
from pipelines.errors import call
def main(argv):
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGTERM])
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.pthread_kill(threading.main_thread().ident, number)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT, signal.SIGTERM])
call(main)
"""


def test_two_signals_at_once_are_one_line() -> None:
    done = subprocess.run(
        [sys.executable, "-c", AT_ONCE], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stderr) == (1, "error: stopped; the same command goes on\n")

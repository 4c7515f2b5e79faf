"""What messages are made of, and that nothing in them steers a terminal."""

from __future__ import annotations

import json
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest

from pipelines.errors import listed, one_line, reason, visible

ROOT = Path(__file__).resolve().parents[2]
# Each hides or overwrites what is on a terminal, or is refused by an output in UTF-8.
HOSTILE = "id\x1b[2J\x1b]0;title\x07\rover\x08\x9b31m\x7f\u202etxt\u2066\ud800"
SHOWN = r"id\x1b[2J\x1b]0;title\x07\x0dover\x08\u009b31m\u007f\u202etxt\u2066\ud800"
BIDI = ("RE", "LE", "RO", "LO", "DF", "RI", "LI", "SI", "DI")


@pytest.mark.parametrize(
    ("values", "wanted"), [([], ""), (["a", "b"], "a, b"), (["a", "b", "c", "d"], "a, b and 2 more")]
)
def test_of_many_values_the_first_are_named(values: list[str], wanted: str) -> None:
    assert listed(values, 2) == wanted


@pytest.mark.parametrize(("said", "wanted"), [("\n its cause\nmore", "its cause"), ("", "ValueError")])
def test_the_reason_is_one_line(said: str, wanted: str) -> None:
    assert reason(ValueError(said)) == wanted


def test_what_a_terminal_obeys_is_written_out() -> None:
    assert visible(HOSTILE) == SHOWN
    obeyed = [chr(code) for code in range(0x110000) if unicodedata.category(chr(code)) in ("Cc", "Cs")]
    obeyed += [chr(code) for code in range(0x110000) if unicodedata.bidirectional(chr(code))[-2:] in BIDI]
    left = [character for character in obeyed if character in visible(character)]
    assert left == ["\n"]


@pytest.mark.parametrize("text", ["plain\ntext", "café, naïve – 中文", "עברית", "👩\u200d🔬"])
def test_other_text_stays_as_it_is(text: str) -> None:
    assert visible(text) == text


def test_what_is_written_out_is_still_the_same_json() -> None:
    content = {"text": HOSTILE, "right to left": "\u200f"}
    assert json.loads(visible(json.dumps(content, ensure_ascii=False))) == content


def test_an_error_is_one_line_that_ends() -> None:
    assert one_line("first\n  second\n\nthird ") == "first second third"
    assert len(one_line("x" * 10**6)) < 5000


def run(body: str) -> subprocess.CompletedProcess[str]:
    """A program whose `main` this is."""
    program = (
        "import logging, sys, warnings\n"
        "from pipelines.errors import *\n"
        f"HOSTILE = {HOSTILE!a}\n"
        f"def main(_):\n    {body}\n"
        "call(main)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, check=False)
    stdout, stderr = done.stdout.decode("utf-8"), done.stderr.decode("utf-8")
    return subprocess.CompletedProcess(done.args, done.returncode, stdout, stderr)


@pytest.mark.parametrize(
    ("body", "stdout", "stderr", "code"),
    [
        ("raise RunError(HOSTILE + '\\nmore')", "", f"error: {SHOWN} more\n", 1),
        ("raise UsageError(HOSTILE)", "", f"error: {SHOWN}\n", 2),
        ("raise OSError(HOSTILE)", "", f"error: {SHOWN}\n", 1),
        ("print(HOSTILE)", f"{SHOWN}\n", "", 0),
        ("print('a\\nb', file=sys.stderr)", "", "a\nb\n", 0),
        (
            "logging.getLogger('x').warning('%s: no', HOSTILE + '\\nmore')",
            "",
            f"{SHOWN} more: no\n",
            0,
        ),
        ("sys.stdout.writelines([HOSTILE, 'b'])", f"{SHOWN}b", "", 0),
        # As tqdm repaints a bar, and goes back to another one.
        ("sys.stderr.write('\\r 50%'); sys.stderr.write('\\n\\x1b[A')", "", "\r 50%\n\x1b[A", 0),
    ],
)
def test_nothing_that_a_program_prints_steers_a_terminal(
    body: str, stdout: str, stderr: str, code: int
) -> None:
    done = run(body)
    assert (done.returncode, done.stdout, done.stderr) == (code, stdout, stderr)


@pytest.mark.parametrize("body", ["raise KeyError(HOSTILE)", "warnings.warn(HOSTILE)"])
def test_nor_does_what_python_prints_of_errors_and_warnings(body: str) -> None:
    said = run(body).stderr
    assert visible(said) == said
    assert "title" in said


def test_a_progress_bar_is_still_one() -> None:
    program = (
        "import sys; from tqdm import tqdm; from pipelines.errors import call\n"
        "def main(_):\n    for _ in tqdm(range(3), mininterval=0, miniters=1): pass\ncall(main)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, check=False)
    assert b"\r100%" in done.stderr
    assert b"x0d" not in done.stderr

"""Recipes and command lines: the file, what is given over it, and errors that name the key."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from pipelines import settings
from pipelines.errors import UsageError
from pipelines.settings import Invocation, parse_stage


@dataclass(frozen=True, kw_only=True)
class Inner:
    """Inner settings."""

    steps: int = 10
    """Steps, 1 or more."""
    styles: tuple[str, ...] = ("plain",)
    """Names."""

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps: {self.steps} is not 1 or more")


@dataclass(frozen=True, kw_only=True)
class Outer:
    """Outer settings."""

    video: Inner = field(default_factory=Inner)
    """Of the video."""
    device: Literal["auto", "cpu"] = "auto"
    """Where."""
    second: Inner | None = None
    """Of a second video."""


ROOT = Path(__file__).resolve().parents[2]
RECIPE = """
seed: 5
work: somewhere
augment:
  video: {steps: 4}
score: {whatever: 1}
"""


def parse(tmp_path: Path, *argv: str, recipe: str | bytes = RECIPE) -> Invocation[Outer]:
    content = recipe.encode() if isinstance(recipe, str) else recipe
    (tmp_path / "recipe.yaml").write_bytes(content)
    command = ["--config", str(tmp_path / "recipe.yaml"), "--data", "a", "--out", "b", *argv]
    return parse_stage(Outer, "augment", command, prog="python -m augment", flags={"fast": "be fast"})


def test_the_command_line_wins_over_the_recipe_and_the_recipe_over_defaults(tmp_path: Path) -> None:
    invocation = parse(tmp_path, "--augment.device", "cpu", "--augment.video.styles", "[x, y]", "--fast")
    assert invocation.config == Outer(video=Inner(steps=4, styles=("x", "y")), device="cpu")
    assert (invocation.seed, invocation.data, invocation.out) == (5, Path("a"), Path("b"))
    assert invocation.flags == {"fast": True}
    assert parse(tmp_path, "--seed", "9", "--augment.video.steps=3").config.video.steps == 3
    assert parse(tmp_path, recipe="seed: 1").config == Outer()
    assert parse(tmp_path, "--seed", str(2**32 - 1)).seed == 2**32 - 1


@pytest.mark.parametrize(
    ("recipe", "argv", "message"),
    [
        (
            "augment: {video: {stpes: 4}}",
            [],
            r"augment\.video\.stpes: unknown key; did you mean steps\? .* takes steps, styles",
        ),
        ("augment: {video: 3}", [], r"augment\.video: got 3; it takes a mapping"),
        (
            "augmnt: {}",
            [],
            r"augmnt: unknown key .*; did you mean augment\? .* takes seed, work, corpus, aug",
        ),
        ("augment: {video: {steps: many}}", [], r"augment\.video\.steps.*Got value: many"),
        ("augment: {video: {steps: 0}}", [], r"augment\.video\.steps: 0 is not 1 or more"),
        ("augment: {device: tpu}", [], r"augment\.device.*'auto', 'cpu'.*Got value: tpu"),
        ("", [], "holds no mapping"),
        ("a: b: c", [], "is not YAML"),
        ("augment: {video: {quality: 4}}", [], r"augment\.video\.quality: unknown key; augment\.video takes"),
        (
            "seed: 1",
            ["--augment.steps", "3"],
            "augment.steps: unknown key; augment takes video, device, second",
        ),
        ("seed: 1", ["--augment.second.step=3"], r"augment\.second\.step: unknown key; did you mean steps\?"),
        ("seed: 1", ["--augment.vidoe.steps=3"], r"augment\.vidoe: unknown key; did you mean video\?"),
        ("seed: 1", ["--augment.video.stpes=3"], r"augment\.video\.stpes: unknown key; did you mean steps\?"),
        ("seed: 1", ["--augment.inner.stpes=3"], r"augment\.inner: unknown key"),
        ("seed: 1", ["--score.steps", "3"], "unrecognized arguments: --score.steps 3"),
        ("seed: 1", ["--executor", "mars"], "executor.*mars"),
        ("seed: -1", [], r"^--seed: got -1; it takes 0 to 2\*\*32 - 1$"),
        ("seed: 1", ["--seed", str(2**32)], r"^--seed: got 4294967296; it takes 0 to 2\*\*32 - 1$"),
        ("seed: 1", ["--seed", "9" * 23], r"^--seed: got 9{23}; it takes 0"),
    ],
)
def test_errors_name_the_key_and_are_one_line(
    tmp_path: Path, recipe: str, argv: list[str], message: str
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        parse(tmp_path, *argv, recipe=recipe)
    assert "\n" not in str(caught.value)


def test_the_help_of_settings_that_may_be_null_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(tmp_path, "--augment.second.help")
    assert not ended.value.code
    assert "--augment.second.steps" in capsys.readouterr().out


def test_data_and_out_are_needed() -> None:
    with pytest.raises(UsageError, match="--data: not given"):
        parse_stage(Outer, "augment", [], prog="python -m augment")


def test_exit_codes_and_print_config(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import sys\n"
        "from pipelines.errors import call\n"
        "from pipelines.settings import parse_stage\n"
        "from pipelines.runner import StageFailed\n"
        "from tests.pipelines.test_settings import Outer\n"
        "def main(argv):\n"
        "    config = parse_stage(Outer, 'augment', argv, prog='p').config\n"
        "    if config.video.steps == 7: raise StageFailed('seven')\n"
        "call(main)\n"
    )

    def run(*argv: str) -> tuple[int, str, str]:
        done = subprocess.run(
            [sys.executable, str(program), "--data", "a", "--out", "b", *argv],
            capture_output=True,
            text=True,
            env={"PYTHONPATH": str(ROOT), "PATH": ""},
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    assert run() == (0, "", "")
    assert run("--augment.video.steps", "7") == (1, "", "error: seven\n")
    code, _, stderr = run("--augment.video.steps", "0")
    assert (code, stderr) == (2, "error: augment.video.steps: 0 is not 1 or more\n")
    code, stdout, _ = run("--augment.video.steps", "3", "--print_config")
    assert code == 0
    assert "steps: 3" in stdout


def laughs(items: str) -> str:
    """Lists of nine aliases of lists of nine aliases, and so on."""
    levels = (f"&a{i + 1} [{', '.join([f'*a{i}'] * 9)}]" for i in range(12))
    return f"[&a0 [{items}], {', '.join(levels)}]"


MERGED = "a0: &a0 {k: 1}\n" + "".join(
    f"a{i + 1}: &a{i + 1} {{<<: [{', '.join([f'*a{i}'] * 9)}]}}\n" for i in range(12)
)
HOSTILE: dict[str, tuple[str | bytes, str]] = {
    "aliases of aliases": (f"augment: {laughs('x')}", "line 1 has more than 10000 values, counted with"),
    "merged mappings": (MERGED, "line 5 has more than 10000 values"),
    "an alias of itself": ("augment: &a {video: *a}", "line 1 has an alias inside of what it repeats"),
    "a call": (
        "augment: !!python/object/apply:os.system [touch ran]",
        "the tag !!python/object/apply:os.sys",
    ),
    "a call by a prefix": (
        "%TAG ! tag:yaml.org,2002:python/\n---\naugment: !object/apply:os.system [touch ran]",
        "line 3 has the tag !!python/object/apply:os.system",
    ),
    "a name": ("augment: !!python/name:os.system", "has the tag !!python/name:os.system; values are plain"),
    "a tag of its own": ("augment: !recipe {}", "line 1 has the tag !recipe; values are plain"),
    "bytes": ("augment: !!binary eA==", "has the tag !!binary"),
    "a set": ("augment: !!set {a}", "has the tag !!set"),
    "a value that is not of its tag": ("augment: !!bool maybe", "not of its type"),
    "an integer of many digits": (f"seed: {'9' * 5000}", "not of its type"),
    "a large file": ("# " + "x" * 70_000, "has more than 64 KiB"),
    "a large file in another alphabet": ("# " + "é" * 70_000, "has more than 64 KiB"),
    "many values": ("- a\n" * 12_000, "line 10001 has more than 10000 values"),
    "deep lists": ("[" * 60_000, "line 1 is nested more than 50 deep"),
    "deep mappings": ("".join(f"{' ' * i}a:\n" for i in range(200)), "line 50 is nested more than 50 deep"),
    "UTF-16": ("seed: 1".encode("utf-16"), "is not in UTF-8 at byte 0"),
    "Latin-1": ("# caf\xe9".encode("latin1"), "is not in UTF-8 at byte 5"),
    "a NUL": ("seed: 1\0", "unacceptable character #x0000"),
    "an escaped NUL": ('work: "a\\0b"', "line 1 has a text with a NUL or half a character"),
    "half a character": ('work: "\\ud800"', "line 1 has a text with a NUL or half a character"),
    "the same key twice": ("seed: 1\nwork: a\nseed: 2", "line 3 has the key 'seed' twice"),
    "the same key in quotes": ("augment:\n  a: 1\n  'a': 1", "line 3 has the key 'a' twice"),
    "a key that is a list": ("? [a]\n: 1", "line 1 has a key that is no plain value"),
    "two documents": ("seed: 1\n---\nseed: 2", "line 2 but found another document"),
    "a list": ("- seed", "holds no mapping"),
    "a text": ("seed", "holds no mapping"),
    "comments alone": ("# nothing", "holds no mapping"),
    "an alias of nothing": ("seed: *a", "line 1 found undefined alias"),
    "a list that does not end": ("augment: [", "line 1 expected the node content"),
    "a folder that is a list": ("work: [a]", "work: in .*recipe.yaml is no text; it takes a folder"),
    "a section that is a list": ("augment: [1]", r"augment: got \[1\]; it takes a mapping"),
    "a key that is a number": ("augment: {1: 2}", r"augment\.1: unknown key"),
    "aliases in a text": (f"augment: {{device: '{laughs('x')}'}}", r"augment\.device.*Got value: \[&a0"),
    "aliases in a text for a list": (f"augment: {{video: {{styles: '{laughs('x')}'}}}}", r"video\.styles"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_recipe_is_refused_in_one_line_and_in_a_short_time(tmp_path: Path, name: str) -> None:
    recipe, message = HOSTILE[name]
    started = time.process_time()
    with pytest.raises(UsageError, match=message) as caught:
        parse(tmp_path, recipe=recipe)
    assert time.process_time() - started < 1
    assert "\n" not in str(caught.value)
    if str(caught.value).startswith("--config"):
        assert str(tmp_path / "recipe.yaml") in str(caught.value)


def test_aliases_merges_and_dates_are_read(tmp_path: Path) -> None:
    recipe = "work: 2026-01-02\naugment:\n  video: &a {steps: 4}\nscore: {a: {<<: *a, steps: 5}}"
    assert parse(tmp_path, recipe=recipe).config.video.steps == 4
    assert settings.read_recipe(tmp_path / "recipe.yaml") == {
        "work": "2026-01-02",
        "augment": {"video": {"steps": 4}},
        "score": {"a": {"steps": 5}},
    }
    assert parse(tmp_path, recipe="\ufeffseed: 3").seed == 3


@pytest.mark.parametrize(
    "argv", [("--augment", "settings.yaml"), ("--augment.video", "settings.yaml"), ("--conf", "recipe.yaml")]
)
def test_no_other_way_of_giving_a_file_is_without_bounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argv: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "settings.yaml").write_text(laughs("x"))
    with pytest.raises(UsageError, match=r"counted with what aliases repeat|unrecognized arguments: --conf"):
        parse(tmp_path, *argv)


COMMANDS = {
    "daq-msa run": ["pipelines", "run"],
    "daq-msa doctor": ["pipelines", "doctor"],
    "augment": ["augment", "--data", "a", "--out", "b"],
    "score": ["score", "--data", "a", "--out", "b"],
    "finetune": ["finetune", "--data", "a", "--out", "b"],
    "finetune.fusion": ["finetune.fusion", "--data", "a", "--out", "b"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_refuses_a_hostile_recipe_with_exit_code_2(tmp_path: Path, command: str) -> None:
    for content in (f"augment: {laughs('x')}", 'work: &a [*a, "\\e[2J"]', "a\x1b[2J: 1", '"\\e[2J": 1'):
        path = tmp_path / "recipe.yaml"
        path.write_text(content)
        done = subprocess.run(
            [sys.executable, "-m", *COMMANDS[command], "--config", str(path)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("error: ")
        assert str(path) in done.stderr
        assert done.stderr.count("\n") == 1
        assert "\x1b" not in done.stderr


@pytest.mark.parametrize("argv", [(), ("--augment.video.passes", "4")])
def test_an_old_key_is_refused_with_its_new_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argv: tuple[str, ...]
) -> None:
    monkeypatch.setattr(settings, "RENAMED", {"augment.video.passes": "augment.video.steps"})
    recipe = RECIPE if argv else RECIPE.replace("steps", "passes")
    with pytest.raises(UsageError, match=r"augment\.video\.passes: is called augment\.video\.steps"):
        parse(tmp_path, *argv, recipe=recipe)

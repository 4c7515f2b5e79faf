"""Recipes and command lines: the file, what is given over it, and errors that name the key."""

from __future__ import annotations

import subprocess
import sys
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


RECIPE = """
seed: 5
work: somewhere
augment:
  video: {steps: 4}
score: {whatever: 1}
"""


def parse(tmp_path: Path, *argv: str, recipe: str = RECIPE) -> Invocation[Outer]:
    (tmp_path / "recipe.yaml").write_text(recipe)
    command = ["--config", str(tmp_path / "recipe.yaml"), "--data", "a", "--out", "b", *argv]
    return parse_stage(Outer, "augment", command, prog="python -m augment", flags={"fast": "be fast"})


def test_the_command_line_wins_over_the_recipe_and_the_recipe_over_defaults(tmp_path: Path) -> None:
    invocation = parse(tmp_path, "--augment.device", "cpu", "--augment.video.styles", "[x, y]", "--fast")
    assert invocation.config == Outer(video=Inner(steps=4, styles=("x", "y")), device="cpu")
    assert (invocation.seed, invocation.data, invocation.out) == (5, Path("a"), Path("b"))
    assert invocation.flags == {"fast": True}
    assert parse(tmp_path, "--seed", "9", "--augment.video.steps=3").config.video.steps == 3
    assert parse(tmp_path, recipe="seed: 1").config == Outer()


@pytest.mark.parametrize(
    ("recipe", "argv", "message"),
    [
        ("augment: {video: {stpes: 4}}", [], r"augment\.video\.stpes: unknown key; .* takes steps, styles"),
        ("augment: {video: 3}", [], r"augment\.video: got 3; it takes a mapping"),
        ("augmnt: {}", [], "augmnt: unknown key .* takes seed, work, corpus, augment"),
        ("augment: {video: {steps: many}}", [], r"augment\.video\.steps.*Got value: many"),
        ("augment: {video: {steps: 0}}", [], r"augment\.video\.steps: 0 is not 1 or more"),
        ("augment: {device: tpu}", [], r"augment\.device.*'auto', 'cpu'.*Got value: tpu"),
        ("", [], "holds no mapping"),
        ("a: b: c", [], "is not YAML"),
        ("seed: 1", ["--augment.steps", "3"], "unrecognized arguments: --augment.steps 3"),
        ("seed: 1", ["--executor", "mars"], "executor.*mars"),
    ],
)
def test_errors_name_the_key_and_are_one_line(
    tmp_path: Path, recipe: str, argv: list[str], message: str
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        parse(tmp_path, *argv, recipe=recipe)
    assert message.count("YAML") or "\n" not in str(caught.value)


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
    root = Path(__file__).resolve().parents[2]

    def run(*argv: str) -> tuple[int, str, str]:
        done = subprocess.run(
            [sys.executable, str(program), "--data", "a", "--out", "b", *argv],
            capture_output=True,
            text=True,
            env={"PYTHONPATH": str(root), "PATH": ""},
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


@pytest.mark.parametrize("argv", [(), ("--augment.video.passes", "4")])
def test_an_old_key_is_refused_with_its_new_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argv: tuple[str, ...]
) -> None:
    monkeypatch.setattr(settings, "RENAMED", {"augment.video.passes": "augment.video.steps"})
    recipe = RECIPE if argv else RECIPE.replace("steps", "passes")
    with pytest.raises(UsageError, match=r"augment\.video\.passes: is called augment\.video\.steps"):
        parse(tmp_path, *argv, recipe=recipe)

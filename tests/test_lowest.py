"""The floors in pyproject.toml are the versions that `make test-lowest` has installed."""

from __future__ import annotations

import re
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def floors() -> dict[str, str]:
    """The least version of each dependency of the core, by its name."""
    found = {}
    for line in PROJECT["dependencies"]:
        name, least = re.match(r"([\w-]+)(?:\[\w+\])?>=([\d.]+)", line).groups()  # type: ignore[union-attr]
        found[name] = least
    return found


def test_every_dependency_has_a_floor_and_a_reason() -> None:
    assert len(floors()) == len(PROJECT["dependencies"])
    listed = (
        (ROOT / "pyproject.toml").read_text(encoding="utf-8").split("dependencies = [")[1].split("\n]")[0]
    )
    before = ""
    for line in listed.strip().splitlines():
        assert "#" in line or before.strip().startswith("#"), f"no reason beside {line.strip()}"
        before = line


@pytest.mark.skipif(not Path(sys.prefix).name.endswith("-lowest"), reason="of the lowest versions alone")
def test_the_lowest_versions_are_the_floors() -> None:
    installed = {name: version(name) for name in floors()}
    wrong = {
        name: (installed[name], least)
        for name, least in floors().items()
        if not re.match(rf"{re.escape(least)}(\.0)*$", installed[name])
    }
    assert not wrong, "the floor is not the version that was run"

"""From a recipe and the command line to a stage's frozen settings.

A recipe is one YAML file for a whole run. Its sections are `SECTIONS`; a stage reads its own and
the run's seed, and takes `--section.key value` over the file. Unknown keys are errors.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import json
import shlex
import typing
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import jsonargparse
import yaml

from pipelines.errors import UsageError
from pipelines.untrusted import plain_yaml

SECTIONS = ("corpus", "augment", "score", "finetune", "fusion")
RUN_KEYS = ("seed", "work")
SEEDS = range(2**32)  # that every library takes
# Settings that had another name in a release: the old key, and the one to use.
RENAMED: dict[str, str] = {"finetune.readout": "finetune.head"}

jsonargparse.set_parsing_settings(docstring_parse_attribute_docstrings=True)


def _load_value(text: str) -> Any:
    """A value on the command line or in a recipe, which jsonargparse reads as YAML once more."""
    plain_yaml.check(text)
    return _LOAD(text)


_LOAD = jsonargparse.get_loader("yaml")
jsonargparse.set_loader("yaml", _load_value, exceptions=(yaml.YAMLError,))

Config = TypeVar("Config")


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """How a stage goes through its tasks; none of it changes a result."""

    batch_size: int = 1
    """Rows that the operator gets at a time."""
    max_failures: int | None = None
    """Stop once more rows than this have failed."""
    retry_failed: bool = False
    """Take the rows again that failed earlier."""
    overwrite: bool = False
    """Replace finished rows that were made with other settings or from other inputs."""

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size: {self.batch_size} is not 1 or more")
        if self.max_failures is not None and self.max_failures < 0:
            raise ValueError(f"max_failures: {self.max_failures} is negative")


@dataclass(frozen=True, kw_only=True)
class Invocation(Generic[Config]):
    """The parsed command line of a stage."""

    config: Config
    data: Path
    """The store (or file) to read."""
    out: Path
    """The folder to write."""
    seed: int
    max_failures: int | None
    retry_failed: bool
    overwrite: bool
    flags: dict[str, bool]
    command: str
    """As it was typed."""
    paths: dict[str, Path | None] = field(default_factory=dict)
    """Paths that only this stage takes, by their option's name; None if one was not given."""

    def run_settings(self, batch_size: int) -> RunSettings:
        """The settings of the runner."""
        return RunSettings(
            batch_size=batch_size,
            max_failures=self.max_failures,
            retry_failed=self.retry_failed,
            overwrite=self.overwrite,
        )


def read_recipe(path: Path) -> dict[str, Any]:
    """A recipe's content, with its top-level keys checked.

    Raises:
        UsageError: If the file is missing, is no YAML mapping of plain values, or has an unknown
            top-level key.
    """
    try:
        with path.open("rb") as file:
            recipe = plain_yaml.load(file.read(plain_yaml.MAX_BYTES + 1))
    except OSError as error:
        raise UsageError(f"--config: cannot read {path} ({error.strerror})") from error
    except yaml.YAMLError as error:
        raise UsageError(f"--config: {path} is not YAML of plain values: {error}") from error
    if not isinstance(recipe, dict):
        raise UsageError(f"--config: {path} holds no mapping; its keys are {', '.join(RUN_KEYS + SECTIONS)}")
    for key in recipe:
        if key not in RUN_KEYS + SECTIONS:
            right = _right_keys(key, "a recipe", RUN_KEYS + SECTIONS)
            raise UsageError(f"{key}: unknown key in {path}; {right}")
    if not isinstance(recipe.get("work", ""), str | None):
        raise UsageError(
            f"work: in {path} is no text; it takes a folder, in quotes if it looks like a number"
        )
    return recipe


def parse_stage(
    config_class: type[Config],
    section: str,
    argv: Sequence[str],
    *,
    prog: str,
    flags: dict[str, str] | None = None,
    paths: dict[str, str] | None = None,
    needs: tuple[str, ...] = ("data", "out"),
) -> Invocation[Config]:
    """Read a stage's command line.

    Args:
        config_class: The dataclass of the stage's settings; fields may be dataclasses again.
        section: Its section in the recipe.
        argv: The arguments after the program's name.
        prog: The program's name, for messages.
        flags: Names and help texts of switches that only this stage has.
        paths: Names and help texts of path options that only this stage has.
        needs: Those of `--data` and `--out` that must be given.

    Raises:
        UsageError: If an argument, a key or a value is wrong.
    """
    flags, paths = flags or {}, paths or {}
    parser = _parser(config_class, section, prog, flags, paths)
    try:
        parsed = parser.parse_args(_inline_recipe(list(argv), config_class, section))
    except (argparse.ArgumentError, jsonargparse.ArgumentError) as error:
        raise UsageError(" ".join(str(error).split())) from error
    if parsed.seed not in SEEDS:
        raise UsageError(f"--seed: got {parsed.seed}; it takes 0 to 2**32 - 1")
    if parsed.max_failures is not None and parsed.max_failures < 0:
        raise UsageError(f"--max-failures: got {parsed.max_failures}; takes 0 or more")
    for name in needs:
        if parsed[name] is None:
            needed = " and ".join(f"--{each}" for each in needs)
            raise UsageError(f"--{name}: not given; {prog} needs {needed}")
    return Invocation(
        config=_build(config_class, parsed[section].as_dict(), section),
        data=Path(parsed.data or "."),
        out=Path(parsed.out or "."),
        seed=parsed.seed,
        max_failures=parsed.max_failures,
        retry_failed=parsed.retry_failed,
        overwrite=parsed.overwrite,
        flags={name: parsed[name.replace("-", "_")] for name in flags},
        command=shlex.join([*prog.split(), *argv]),
        paths={name: Path(parsed[name]) if parsed[name] else None for name in paths},
    )


def _parser(
    config_class: type, section: str, prog: str, flags: dict[str, str], paths: dict[str, str]
) -> jsonargparse.ArgumentParser:
    parser = jsonargparse.ArgumentParser(prog=prog, exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--config", action="config", help="the recipe, a YAML file")
    parser.add_argument("--data", help="the store to read, of the stage before")
    parser.add_argument("--out", help="the folder to write")
    parser.add_argument("--seed", type=int, default=0, help="the run's seed")
    parser.add_argument("--executor", choices=["local"], default="local", help="where the operator runs")
    text = "stop when more rows have failed"
    parser.add_argument("--max-failures", type=int | None, default=None, help=text)
    parser.add_argument("--retry-failed", action="store_true", help="try rows again that failed earlier")
    text = "replace finished work at --out that was made with other settings or from other inputs"
    parser.add_argument("--overwrite", action="store_true", help=text)
    for name, text in flags.items():
        parser.add_argument(f"--{name}", action="store_true", help=text)
    for name, text in paths.items():
        parser.add_argument(f"--{name}", help=text)
    parser.add_class_arguments(config_class, section)
    return parser


def _inline_recipe(argv: list[str], config_class: type, section: str) -> list[str]:
    """The arguments, with each recipe reduced to the keys of this stage, as JSON."""
    inlined = []
    remaining = iter(argv)
    for argument in remaining:
        name, given, value = argument.partition("=")
        if name == "--config":
            path = value if given else next(remaining, None)
            if not path:
                raise UsageError("--config: no file given; it takes a recipe, a YAML file")
            recipe = read_recipe(Path(path))
            _check_keys(config_class, recipe.get(section) or {}, section)
            own = {key: recipe[key] for key in ("seed", section) if recipe.get(key) is not None}
            inlined += ["--config", json.dumps(own)]
        else:
            _check_renamed(name.removeprefix("--"))
            if name.startswith(f"--{section}.") and not name.endswith(".help"):  # which jsonargparse adds
                _check_keys(config_class, _as_mapping(name.split(".")[1:]), section)
            inlined.append(argument)
    return inlined


def _as_mapping(keys: list[str]) -> dict[str, Any]:
    """What a recipe's section holds where these keys are given, one inside another."""
    return {keys[0]: _as_mapping(keys[1:]) if keys[1:] else None}


def _check_renamed(key: str) -> None:
    if key in RENAMED:
        raise UsageError(f"{key}: is called {RENAMED[key]} since version 0.2.0; use that name")


def _nested(config_class: type) -> dict[str, type]:
    """The fields of a settings class that are settings classes themselves, or one or null."""
    hints = typing.get_type_hints(config_class)
    return {
        name: kind
        for name, hint in hints.items()
        for kind in typing.get_args(hint) or (hint,)
        if isinstance(kind, type) and dataclasses.is_dataclass(kind)
    }


def _right_keys(key: Any, owner: str, names: Sequence[str]) -> str:
    """What is told of a wrong key: the nearest right one, if any is near, and all that there are."""
    near = "".join(f"did you mean {name}? " for name in difflib.get_close_matches(str(key), names, 1))
    return f"{near}{owner} takes {', '.join(names)}"


def _check_keys(config_class: type, values: Any, prefix: str) -> None:
    names = [field.name for field in dataclasses.fields(config_class)]
    if not isinstance(values, dict):
        raise UsageError(f"{prefix}: got {values!r}; it takes a mapping with {', '.join(names)}")
    for key, value in values.items():
        _check_renamed(f"{prefix}.{key}")
        if key not in names:
            raise UsageError(f"{prefix}.{key}: unknown key; {_right_keys(key, prefix, names)}")
        if key in _nested(config_class) and value is not None:
            _check_keys(_nested(config_class)[key], value, f"{prefix}.{key}")


def _build(config_class: type[Config], values: dict[str, Any], prefix: str) -> Config:
    nested = {name: kind for name, kind in _nested(config_class).items() if values.get(name) is not None}
    values = values | {name: _build(kind, values[name], f"{prefix}.{name}") for name, kind in nested.items()}
    try:
        return config_class(**values)
    except ValueError as error:
        raise UsageError(str(error) if isinstance(error, UsageError) else f"{prefix}.{error}") from error

"""`daq-msa`: import, run, demo, status, check, evaluate, predict, merge, convert, report, push, doctor.

Each stage runs in a process of its own, so that its memory is freed when it ends. Modules are imported when a
command needs them; `--help` imports nothing heavy.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from pipelines.corpora.readers import READERS
from pipelines.errors import UsageError, call


class _Parser(argparse.ArgumentParser):
    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see {self.prog} --help")


@dataclass(frozen=True, kw_only=True)
class Command:
    """The arguments of `daq-msa NAME`, and what it starts."""

    help: str
    start: Callable[[argparse.Namespace, list[str]], None]
    """Takes the arguments, and the rest of the line if there are `settings`."""
    arguments: Sequence[tuple[str, dict[str, Any]]] = ()
    """Arguments of `add_argument`."""
    settings: str | None = None
    """Describes the `--section.key VALUE` that it also takes."""


def main(argv: list[str]) -> None:
    """Run one command."""
    # Arrow's own allocator keeps what it freed, 16 MB in an import.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    arguments, rest = _parser().parse_known_args(argv)
    command = COMMANDS[arguments.command]
    if rest and not command.settings:
        raise UsageError(f"unrecognized arguments: {' '.join(rest)}; see daq-msa {arguments.command} --help")
    command.start(arguments, rest)


def _parser() -> _Parser:
    parser = _Parser(
        prog="daq-msa",
        description="Diffusion augmentation with reliability weights for multimodal sentiment analysis.",
        epilog="Stages alone: python -m augment, score or finetune.fusion; accelerate launch -m finetune.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    for name, command in COMMANDS.items():
        epilog = f"{command.settings} Values are given as --section.key VALUE." if command.settings else None
        added = commands.add_parser(name, help=command.help, description=command.help, epilog=epilog)
        for flag, options in command.arguments:
            added.add_argument(flag, **options)
    return parser


def _import(arguments: argparse.Namespace, rest: list[str]) -> None:
    from pipelines.importing import main as run_import

    named = ["--corpus.name", arguments.corpus, "--corpus.path", str(arguments.src)]
    named += ["--corpus.strict", "true"] if arguments.strict else []
    run_import([*named, "--out", str(arguments.out), *rest])


def _run(arguments: argparse.Namespace, rest: list[str]) -> None:
    from pipelines.whole_run import DEMO_RECIPE, run

    run(DEMO_RECIPE if arguments.command == "demo" else arguments.config, arguments.work, rest)


def _status(arguments: argparse.Namespace, _: list[str]) -> None:
    from pipelines.whole_run import print_status

    print_status(arguments.dir)


def _check(arguments: argparse.Namespace, _: list[str]) -> None:
    from pipelines.store_files.checking import check

    check(arguments.dir)


def _program(module: str, *, quiet: bool) -> Callable[[argparse.Namespace, list[str]], None]:
    """Starts a module with the command's own arguments and the rest of the line."""

    def begin(arguments: argparse.Namespace, rest: list[str]) -> None:
        from pipelines.running.launching import launch
        from pipelines.whole_run import start

        given: list[str] = []
        for flag, _ in COMMANDS[arguments.command].arguments:
            value = getattr(arguments, flag.removeprefix("--"))
            if value is not None:
                given += [flag, str(value)] if flag.startswith("--") else [str(value)]
        (launch if quiet else start)(arguments.command, ["-m", module, *given, *rest])

    return begin


def _report(arguments: argparse.Namespace, _: list[str]) -> None:
    from pipelines.report.page import write_report

    print(write_report(arguments.store, arguments.out, model=arguments.model, limit=arguments.limit))


def _push(arguments: argparse.Namespace, _: list[str]) -> None:
    from pipelines.hub.push import push

    push(**{name: value for name, value in vars(arguments).items() if name != "command"})


def _doctor(arguments: argparse.Namespace, _: list[str]) -> None:
    from pipelines.doctor import examine

    examine(arguments.config)


def _folder(metavar: str, **options: Any) -> dict[str, Any]:
    return {"type": Path, "metavar": metavar, **options}


def _needed(metavar: str) -> dict[str, Any]:
    return _folder(metavar, required=True)


def _flag(text: str) -> dict[str, Any]:
    return {"action": "store_true", "help": text}


COMMANDS = {
    "demo": Command(
        help="The whole pipeline on the embedded puppets: no GPU, no downloads.",
        start=_run,
        arguments=[
            ("--out", _folder("WORK", dest="work", default="runs/demo", help="default: %(default)s")),
        ],
        settings="Takes what run takes.",
    ),
    "import": Command(
        help="Turn a corpus on disk into a store.",
        start=_import,
        arguments=[
            ("corpus", {"choices": tuple(READERS)}),
            ("src", _folder("SRC", help="the corpus' folder; of `folder` its CSV")),
            ("--out", _needed("STORE")),
            ("--strict", _flag("refuse a table that has a bad line")),
        ],
        settings="Settings of the section `corpus`.",
    ),
    "run": Command(
        help="All stages of a recipe: import, augment, score, finetune.",
        start=_run,
        arguments=[
            ("--config", _needed("RECIPE.yaml")),
            ("--work", {"type": Path, "help": "working folder (default: the recipe's `work`)"}),
        ],
        settings="Settings over the recipe.",
    ),
    "status": Command(
        help="How far the stages in a folder are.",
        start=_status,
        arguments=[("dir", _folder("DIR", help="a store, or the working folder of a run"))],
    ),
    "check": Command(
        help="Read everything in a store and name the damaged files.",
        start=_check,
        arguments=[("dir", _folder("STORE", help="a store, or the working folder of a run"))],
    ),
    "evaluate": Command(
        help="Metrics of a fine-tuned model on a store.",
        start=_program("finetune.evaluation", quiet=False),
        arguments=[
            ("--model", _needed("DIR")),
            ("--data", _needed("STORE")),
            ("--against", _folder("DIR2", help="compare with this model, by bootstrap")),
        ],
        settings="Takes what finetune.evaluation takes.",
    ),
    "predict": Command(
        help="Rate one clip with a fine-tuned model.",
        start=_program("finetune.prediction", quiet=True),
        arguments=[("--model", _needed("DIR"))],
        settings="Takes what finetune.prediction takes: CLIP, --text, --language, --json.",
    ),
    "merge": Command(
        help="Add a fine-tuned model's adapter to its base model's weights.",
        start=_program("finetune.merging", quiet=False),
        arguments=[("--model", _needed("DIR")), ("--out", _needed("DIR2"))],
        settings="Takes what finetune.merging takes.",
    ),
    "convert": Command(
        help="Turn a feature pickle of MMSA into a safetensors file for the fusion model.",
        start=_program("finetune.fusion.features.convert", quiet=True),
        arguments=[("pickle", _folder("PICKLE")), ("--out", _needed("FILE.safetensors"))],
        settings="Takes what finetune.fusion.features.convert takes.",
    ),
    "report": Command(
        help="A static page with originals next to their variants.",
        start=_report,
        arguments=[
            ("store", _folder("STORE")),
            ("--out", _needed("DIR")),
            ("--model", _folder("DIR", help="a fine-tuned model, to show its metrics")),
            ("--limit", {"type": int, "help": "show only so many originals"}),
        ],
    ),
    "push": Command(
        help="Upload a store to the Hub.",
        start=_push,
        arguments=[
            ("store", _folder("STORE")),
            ("repo", {"metavar": "USER/NAME"}),
            ("--public", _flag("make the repository public (default: private)")),
            ("--dry-run", _flag("print files and bytes, upload nothing")),
            ("--i-have-the-rights", _flag("push a corpus whose terms forbid it")),
        ],
    ),
    "doctor": Command(
        help="What is installed, what is missing, and how to install it.",
        start=_doctor,
        arguments=[("--config", _folder("RECIPE.yaml", help="what it needs must be there"))],
    ),
}


def entry() -> NoReturn:
    """The console script."""
    call(main)


if __name__ == "__main__":
    entry()

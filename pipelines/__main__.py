"""`daq-msa`: import, run, demo, status, evaluate, predict, merge, convert, report, push, doctor.

The stages are started as processes of their own, so that a stage's memory is freed when it ends.
What a command needs is imported when it runs; `--help` imports nothing heavy.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NoReturn

from pipelines.errors import UsageError, call

CORPORA = ("mosi", "mosei", "sims", "mustard", "meld", "folder")


class _Parser(argparse.ArgumentParser):
    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see {self.prog} --help")


def main(argv: list[str]) -> None:
    """Run one command."""
    arguments, rest = _parser().parse_known_args(argv)
    if rest and not arguments.takes_settings:
        raise UsageError(f"unrecognized arguments: {' '.join(rest)}; see daq-msa {arguments.command} --help")
    COMMANDS[arguments.command](arguments, rest)


def _parser() -> _Parser:
    parser = _Parser(
        prog="daq-msa",
        description="Diffusion augmentation with reliability weights for multimodal sentiment analysis.",
        epilog="Stages alone: python -m augment, score or finetune.fusion; accelerate launch -m finetune.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)

    def command(name: str, text: str, *, settings: str | None = None) -> argparse.ArgumentParser:
        epilog = f"{settings} Values are given as --section.key VALUE." if settings else None
        added = commands.add_parser(name, help=text, description=text, epilog=epilog)
        added.set_defaults(takes_settings=settings is not None)
        return added

    demo = command(
        "demo",
        "The whole pipeline on the embedded puppets: no GPU, no downloads.",
        settings="Takes what run takes.",
    )
    demo.add_argument(
        "--out", type=Path, default=Path("runs/demo"), help="working folder (default: runs/demo)"
    )

    importer = command(
        "import", "Turn a corpus on disk into a store.", settings="Settings of the section `corpus`."
    )
    importer.add_argument("corpus", choices=CORPORA)
    importer.add_argument("src", type=Path, metavar="SRC", help="the corpus' folder; of `folder` its CSV")
    importer.add_argument("--out", type=Path, required=True, metavar="STORE")
    importer.add_argument("--strict", action="store_true", help="refuse a table that has a bad line")

    run = command(
        "run",
        "All stages of a recipe: import, augment, score, finetune.",
        settings="Settings over the recipe.",
    )
    run.add_argument("--config", type=Path, required=True, metavar="RECIPE.yaml")
    run.add_argument("--work", type=Path, help="working folder (default: the recipe's `work`)")

    status = command("status", "How far the stages in a folder are.")
    status.add_argument("dir", type=Path, metavar="DIR", help="a store, or the working folder of a run")

    evaluate = command(
        "evaluate",
        "Metrics of a fine-tuned model on a store.",
        settings="Takes what finetune.evaluation takes.",
    )
    evaluate.add_argument("--model", type=Path, required=True, metavar="DIR")
    evaluate.add_argument("--data", type=Path, required=True, metavar="STORE")
    evaluate.add_argument(
        "--against", type=Path, metavar="DIR2", help="compare with this model, by bootstrap"
    )

    predict = command(
        "predict",
        "Rate one clip with a fine-tuned model.",
        settings="Takes what finetune.prediction takes: CLIP, --text, --language, --json.",
    )
    predict.add_argument("--model", type=Path, required=True, metavar="DIR")

    merge = command(
        "merge",
        "Add a fine-tuned model's adapter to its base model's weights.",
        settings="Takes what finetune.merging takes.",
    )
    merge.add_argument("--model", type=Path, required=True, metavar="DIR")
    merge.add_argument("--out", type=Path, required=True, metavar="DIR2")

    convert = command(
        "convert",
        "Turn a feature pickle of MMSA into a safetensors file for the fusion model.",
        settings="Takes what finetune.fusion.features.convert takes.",
    )
    convert.add_argument("pickle", type=Path, metavar="PICKLE")
    convert.add_argument("--out", type=Path, required=True, metavar="FILE.safetensors")

    report = command("report", "A static page with originals beside their variants.")
    report.add_argument("store", type=Path, metavar="STORE")
    report.add_argument("--out", type=Path, required=True, metavar="DIR")
    report.add_argument("--model", type=Path, metavar="DIR", help="a fine-tuned model, to show its metrics")
    report.add_argument("--limit", type=int, help="show only so many originals")

    push = command("push", "Upload a store to the Hub.")
    push.add_argument("store", type=Path, metavar="STORE")
    push.add_argument("repo", metavar="USER/NAME")
    push.add_argument("--public", action="store_true", help="make the repository public (default: private)")
    push.add_argument("--dry-run", action="store_true", help="print files and bytes, upload nothing")
    push.add_argument("--i-have-the-rights", action="store_true", help="push a corpus whose terms forbid it")

    doctor = command("doctor", "What is installed, what is not, and what to type to have it.")
    doctor.add_argument("--config", type=Path, metavar="RECIPE.yaml", help="what it asks for must be there")
    return parser


def _demo(arguments: argparse.Namespace, rest: list[str]) -> None:
    from pipelines.run import DEMO_RECIPE, run

    run(DEMO_RECIPE, arguments.out, rest)


def _import(arguments: argparse.Namespace, rest: list[str]) -> None:
    from pipelines.importing import main as run_import

    named = ["--corpus.name", arguments.corpus, "--corpus.path", str(arguments.src)]
    named += ["--corpus.strict", "true"] if arguments.strict else []
    run_import([*named, "--out", str(arguments.out), *rest])


def _run(arguments: argparse.Namespace, rest: list[str]) -> None:
    from pipelines.run import run

    run(arguments.config, arguments.work, rest)


def _status(arguments: argparse.Namespace, _: list[str]) -> None:
    from pipelines.run import print_status

    print_status(arguments.dir)


def _evaluate(arguments: argparse.Namespace, rest: list[str]) -> None:
    from pipelines.run import start

    named = ["--model", str(arguments.model), "--data", str(arguments.data)]
    named += ["--against", str(arguments.against)] if arguments.against else []
    start("evaluate", ["-m", "finetune.evaluation", *named, *rest])


def _predict(arguments: argparse.Namespace, rest: list[str]) -> None:
    from pipelines.run import launch

    launch("predict", ["-m", "finetune.prediction", "--model", str(arguments.model), *rest])


def _merge(arguments: argparse.Namespace, rest: list[str]) -> None:
    from pipelines.run import start

    named = ["--model", str(arguments.model), "--out", str(arguments.out)]
    start("merge", ["-m", "finetune.merging", *named, *rest])


def _convert(arguments: argparse.Namespace, rest: list[str]) -> None:
    from pipelines.run import launch

    named = [str(arguments.pickle), "--out", str(arguments.out)]
    launch("convert", ["-m", "finetune.fusion.features.convert", *named, *rest])


def _report(arguments: argparse.Namespace, _: list[str]) -> None:
    from pipelines.report.page import write_report

    print(write_report(arguments.store, arguments.out, model=arguments.model, limit=arguments.limit))


def _push(arguments: argparse.Namespace, _: list[str]) -> None:
    from pipelines.hub import push

    push(
        arguments.store,
        arguments.repo,
        public=arguments.public,
        dry_run=arguments.dry_run,
        i_have_the_rights=arguments.i_have_the_rights,
    )


def _doctor(arguments: argparse.Namespace, _: list[str]) -> None:
    from pipelines.doctor import examine

    examine(arguments.config)


COMMANDS = {
    "demo": _demo,
    "import": _import,
    "run": _run,
    "status": _status,
    "evaluate": _evaluate,
    "predict": _predict,
    "merge": _merge,
    "convert": _convert,
    "report": _report,
    "push": _push,
    "doctor": _doctor,
}


def entry() -> NoReturn:
    """The console script."""
    call(main)


if __name__ == "__main__":
    entry()

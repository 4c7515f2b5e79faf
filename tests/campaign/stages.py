"""The stages' commands, on inputs so small that a trial takes about a second.

Each input is there twice: `inputs/now` as it is, and `inputs/later` with one clip changed. A command always
reads `inputs/read`, a copy of one of them, and always writes `out`, so that the bytes that it leaves can be
compared with those of another run.
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.campaign.programs import Ended, Program

CLASSIC = (
    "--augment.video.variants",
    "0",
    "--augment.audio.variants",
    "0",
    "--augment.classic.variants",
    "1",
)
SPLITS = ("train",) * 4 + ("valid", "test", "test")
SIGNALS_NEED = 8  # training clips, to calibrate


@dataclass(frozen=True)
class Stage:
    """One command.

    Attributes:
        module: As in `python -m MODULE`.
        arguments: Its arguments; `{read}` is the folder of the inputs, `{out}` that which is written.
        setting: Arguments that change a setting of the result; none if the stage has no such.
        begins_as: The input that `out` is a copy of at first, of a stage that writes into its input.
        also: Names of inputs that it reads beside those in its arguments.
    """

    module: str
    arguments: tuple[str, ...]
    setting: tuple[str, ...] = ()
    begins_as: str | None = None
    also: tuple[str, ...] = ()

    @property
    def inputs(self) -> set[str]:
        """The names of what it reads."""
        return {part.split("/")[1] for part in self.arguments if part.startswith("{read}/")} | {*self.also}


STAGES = {
    "import": Stage(
        "pipelines",
        ("import", "folder", "{read}/corpus/label.csv", "--out", "{out}", "--corpus.fps", "8"),
        ("--corpus.max_side", "24"),
    ),
    "augment": Stage(
        "augment",
        ("--data", "{read}/originals", "--out", "{out}", "--augment.device", "cpu", *CLASSIC),
        ("--augment.classic.variants", "2"),
    ),
    "score": Stage(
        "score",
        ("--data", "{read}/augmented", "--out", "{out}", "--score.calibration_clips", "4"),
        ("--score.floor", "0.2"),
    ),
    "finetune": Stage(
        "finetune",
        (
            "--data", "{read}/scored", "--out", "{out}", "--finetune.model", "{read}/thinker",
            "--finetune.epochs", "2", "--finetune.batch_size", "4", "--finetune.lora_rank", "2",
            "--finetune.save_every", "2", "--finetune.log_every", "1", "--finetune.device", "cpu",
            "--finetune.best_by", "MAE",
        ),
        ("--finetune.learning_rate", "0.01"),
    ),
    "finetune.fusion": Stage(
        "finetune.fusion",
        (
            "--data", "{read}/scored", "--out", "{out}", "--fusion.seeds", "[1,2]",
            "--fusion.training.epochs", "2",
            "--fusion.training.device", "cpu", "--fusion.network.width", "16", "--fusion.network.heads", "2",
        ),
        ("--fusion.losses.statistics", "0.2"),
    ),
    "evaluate": Stage(
        "finetune.evaluation",
        ("--model", "{out}", "--data", "{read}/scored", "--device", "cpu"),
        ("--split", "valid"),
        begins_as="model",
        also=("thinker",),
    ),
    "report": Stage("pipelines", ("report", "{read}/scored", "--out", "{out}"), ("--limit", "2")),
}  # fmt: skip


class Bench:
    """The folders of the campaign, and the commands run on them.

    Attributes:
        out: What the commands write.
        inputs: What they read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.out, self.inputs = folder, folder / "bench" / "out", folder / "bench" / "inputs"
        self._read_as: tuple[str, frozenset[str]] | None = None

    def build(self) -> None:
        """Make the inputs, in a process of their own, unless an earlier campaign in this folder has."""
        if (self.inputs / "built").exists():
            return
        shutil.rmtree(self.inputs, ignore_errors=True)
        self.inputs.mkdir(parents=True)
        ended = self.program("tests.campaign.stages", [str(self.inputs)]).wait(600)
        if ended.code != 0:
            raise RuntimeError(f"the campaign's inputs cannot be made:\n{ended.told}")
        (self.inputs / "built").touch()

    def read(self, stage: Stage, state: str) -> None:
        """Let the stage's inputs be those of a state, `now` or `later`."""
        if self._read_as == (state, frozenset(stage.inputs)):
            return
        shutil.rmtree(self.inputs / "read", ignore_errors=True)
        for name in stage.inputs:
            shutil.copytree(self.inputs / state / name, self.inputs / "read" / name)
        self._read_as = (state, frozenset(stage.inputs))

    def begin(self, stage: Stage, state: Path | None = None) -> None:
        """Let `out` be as a folder, or as the stage finds it at first."""
        restore(self.out, state or (self.inputs / "now" / stage.begins_as if stage.begins_as else None))

    def start(self, stage: Stage, more: Sequence[str] = (), **options: Any) -> Program:
        """Start the stage's command, with `more` arguments."""
        given = [part.format(read=self.inputs / "read", out=self.out) for part in stage.arguments]
        return self.program(stage.module, [*given, *more], **options)

    def run(self, stage: Stage, more: Sequence[str] = (), **options: Any) -> Ended:
        """Run the stage's command to its end."""
        return self.start(stage, more, **options).wait()

    def program(
        self, module: str, arguments: Sequence[str], name: str = "scratch", **options: Any
    ) -> Program:
        """Start any program; its output goes to the folder `name`."""
        scratch = self.folder / "bench" / name
        shutil.rmtree(scratch, ignore_errors=True)
        variables = {"TMPDIR": str(scratch)} | options.pop("variables", {})
        return Program(module, arguments, folder=self.out, scratch=scratch, variables=variables, **options)


def restore(folder: Path, state: Path | None) -> None:
    """Let a folder be a copy of another one, or be missing."""
    shutil.rmtree(folder, ignore_errors=True)
    if state is not None and state.exists():
        shutil.copytree(state, folder, symlinks=True)


def main(folder: Path) -> None:
    """Make the inputs."""
    from tests import tiny

    for state in ("now", "later"):
        made = folder / state
        changed = 1 if state == "later" else 0
        _corpus(made / "corpus", changed)
        tiny.thinker(made / "thinker")
        tiny.store(made / "originals", _originals(changed))
        _augmented(made / "augmented", changed)
        tiny.store(made / "scored", _scored(changed))
    _model(folder)


def _originals(changed: int) -> list[dict[str, Any]]:
    from tests import tiny

    rows = [tiny.row(number, split) for number, split in enumerate(SPLITS)]
    if changed:
        rows[0] |= {"audio": tiny.row(50)["audio"], "label": 1.0}
    return rows


def _scored(changed: int) -> list[dict[str, Any]]:
    from tests import tiny

    rows = _originals(changed)
    return rows[:4] + [tiny.variant(number, 0.2 + 0.2 * number) for number in range(4)] + rows[4:]


def _augmented(folder: Path, changed: int) -> None:
    from tests.score.clips import original, variant, write_store

    rows = [original(seed) for seed in range(SIGNALS_NEED)]
    rows += [original(100, split="valid"), original(101, split="test")]
    made = [
        variant(rows[n], "video", 0, video=original(n + 20 + changed)["video"]["bytes"]) for n in range(3)
    ]
    write_store(folder, [*rows, *made], generation=f"{changed}" * 12)


def _corpus(folder: Path, changed: int) -> None:
    from tests import tiny

    folder.mkdir(parents=True)
    lines = []
    for number, split in enumerate(SPLITS):
        row = tiny.row(number + (40 if changed and number == 1 else 0), split)
        (folder / f"clip{number}.mp4").write_bytes(row["video"]["bytes"])
        lines.append([f"clip{number}.mp4", row["text"], f"{row['label']:.2f}", split, row["group"]])
    (folder / "clip2.mp4").write_bytes(b"no clip at all")  # is rejected, in the end as at first
    with (folder / "label.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path", "text", "label", "split", "group"], *lines])


def _model(folder: Path) -> None:
    """A fine-tuned model, which reads its base model where the trials have it."""
    from finetune.__main__ import main as finetune

    read, made = folder / "read", folder / "now" / "model"
    for name in ("scored", "thinker"):
        shutil.copytree(folder / "now" / name, read / name)
    finetune([part.format(read=read, out=made) for part in STAGES["finetune"].arguments])
    shutil.copytree(made, folder / "later" / "model")


if __name__ == "__main__":
    import sys

    main(Path(sys.argv[1]))

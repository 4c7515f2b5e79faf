"""Fusion runs whose files a power loss broke end as if it had not, and other settings replace nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from finetune.fusion.__main__ import main
from finetune.fusion.run import load
from finetune.fusion.training import Trainer
from pipelines.errors import RunError, UsageError
from tests.damage import DAMAGES, files_limited_to
from tests.finetune.fusion.made import mmsa_content, write

SETTINGS = {
    "seeds": [1, 2],
    "network": {"width": 16, "heads": 2, "steps": 6, "dropout": 0.1},
    "training": {"epochs": 4, "batch_size": 8, "device": "cpu"},
}
OF_SEED = ("model.safetensors", "history.jsonl", "steps.parquet", "predictions.parquet", "metrics.json")
RESULTS = ("model.safetensors", "predictions.parquet", "metrics.json")
KINDS = list(DAMAGES)


class Killed(BaseException):
    """As SIGKILL."""


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("inputs")
    (folder / "recipe.yaml").write_text(yaml.safe_dump({"fusion": SETTINGS}))
    data = write(folder / "features.pkl", mmsa_content())
    return ["--config", str(folder / "recipe.yaml"), "--data", str(data), "--out"]


@pytest.fixture(scope="module")
def straight(command: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("straight") / "out"
    main([*command, str(out)])
    return out


@pytest.fixture(scope="module")
def interrupted(command: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Killed in the third epoch of the second seed."""
    out, run_epoch = tmp_path_factory.mktemp("interrupted") / "out", Trainer.run_epoch

    def killed(trainer: Trainer) -> None:
        if trainer.epoch == 2 and (out / "seed-2" / "checkpoint-before.pt").exists():
            raise Killed
        run_epoch(trainer)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Trainer, "run_epoch", killed)
        main([*command, str(out)])
    return out


CASES = [("seed-2/checkpoint.pt", kind) for kind in KINDS]
CASES += [(f"seed-1/{name}", KINDS[n % 4]) for n, name in enumerate((*OF_SEED, "whole.json"))]
CASES += [("config.json", kind) for kind in KINDS] + [
    ("failures.jsonl", "zeros"),
    ("seed-1/whole.json", "missing"),
    ("seed-2/claim.json", "cut"),
]


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_whatever_is_left_of_a_file_the_run_ends_the_same(
    case: tuple[str, str],
    interrupted: Path,
    straight: Path,
    command: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = Path(shutil.copytree(interrupted, tmp_path / "out"))
    name, damage = case
    DAMAGES[damage](out / name)
    main([*command, str(out)])
    said = capsys.readouterr().out
    for result in RESULTS:
        assert (out / result).read_bytes() == (straight / result).read_bytes()
    seeds = [{path.relative_to(each) for path in each.glob("seed-*/*")} for each in (out, straight)]
    assert seeds[0] == seeds[1]
    silent = ("seed-2/checkpoint.pt-missing", "seed-1/whole.json-missing")
    if "-".join(case) not in silent and name not in ("failures.jsonl", "seed-2/claim.json"):
        assert sum(str(out / name) in line for line in said.splitlines()) == 1
    assert not list(out.glob("seed-*/checkpoint*"))


@pytest.mark.parametrize("name", [*RESULTS, "seed-1/model.safetensors"])
def test_files_of_a_finished_run_are_made_again(
    straight: Path, command: list[str], tmp_path: Path, name: str
) -> None:
    out = Path(shutil.copytree(straight, tmp_path / "out"))
    DAMAGES["zeros"](out / name)
    with pytest.raises(RunError, match=r"the command of the run makes it again$"):
        load(out, 1 if name.startswith("seed") else None)
    main([*command, str(out)])
    assert (out / name).read_bytes() == (straight / name).read_bytes()
    load(out)


def test_what_a_kill_left_beside_a_finished_seed_is_removed(
    command: list[str], straight: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(straight, out)
    left = [
        f"seed-1/{name}" for name in ("checkpoint.pt", "checkpoint-before.pt", ".whole.json.999999999.tmp")
    ]
    for name in (*left, ".whole.json.999999999.tmp"):
        (out / name).write_bytes(b"left")
    before = {path.relative_to(straight): path.read_bytes() for path in straight.rglob("seed-*/*")}
    (out / "seed-1" / "claim.json").write_text("{}")
    main([*command, str(out)])
    assert not any((out / name).exists() for name in (*left, ".whole.json.999999999.tmp"))
    assert {path.relative_to(out): path.read_bytes() for path in out.rglob("seed-*/*")} == before


@pytest.mark.parametrize("broken", [False, True])
def test_other_settings_replace_only_what_they_are_told_to(
    interrupted: Path, command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], broken: bool
) -> None:
    out = Path(shutil.copytree(interrupted, tmp_path / "out"))
    if broken:
        (out / "config.json").write_bytes(b"")
    other = [*command, str(out), "--fusion.training.learning_rate", "0.5"]
    with pytest.raises(UsageError, match=r"networks of 2 seed\(s\) of other settings or data; --overwrite"):
        main(other)
    assert (out / "seed-1" / "metrics.json").exists()
    main([*other, "--overwrite", "--fusion.seeds", "[3]"])
    assert "fusion: replaces networks of 2 seed(s) in" in capsys.readouterr().out
    assert [path.name for path in out.glob("seed-*")] == ["seed-3"]
    assert list(json.loads((out / "metrics.json").read_text())["seeds"]) == ["3"]


def test_outputs_that_cannot_be_written_are_one_line(command: list[str], tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(UsageError, match=r"^--out: .*file is a file; takes a folder"):
        main([*command, str(file)])
    with (
        pytest.raises(
            RunError, match=r"checkpoint.pt: cannot be written \(.*; the same command then goes on$"
        ),
        files_limited_to(8_000),
    ):
        main([*command, str(tmp_path / "out")])

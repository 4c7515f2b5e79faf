"""Whatever a power loss left of a file, the run ends with the bytes of one that nothing interrupted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from finetune import evaluation
from finetune.__main__ import main
from pipelines.errors import RunError, UsageError
from tests import tiny
from tests.damage import DAMAGES
from tests.finetune.killing import killed

RESULTS = (
    "adapter_model.safetensors", "adapter_config.json", "head.safetensors", "metrics.json",
    "predictions.parquet", "README.md",
)  # fmt: skip
LAST = "checkpoints/checkpoint-4"
OF_CHECKPOINT = (
    "README.md", "adapter_config.json", "adapter_model.safetensors", "head.safetensors", "optimizer.pt",
    "rng_state.pth", "scheduler.pt", "trainer_state.json", "whole.json",
)  # fmt: skip
OF_RUN = ("run_config.json", "log.jsonl", "status.json")
# Each file with a kind of damage; `tests.campaign` has all kinds.
KINDS = list(DAMAGES)
CASES = [(name, KINDS[n % len(KINDS)]) for n, name in enumerate((*OF_RUN, *OF_CHECKPOINT))]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [tiny.row(n) for n in range(6)] + [tiny.variant(n, 0.2 + 0.1 * n) for n in range(6)]
    return tiny.store(tmp_path_factory.mktemp("store"), rows + [tiny.row(n, "test") for n in range(2)])


@pytest.fixture(scope="module")
def command(store: Path, tiny_thinker: Path) -> Callable[..., list[str]]:
    """Six steps, three an epoch."""

    def made(out: Path, **settings: Any) -> list[str]:
        chosen = {"model": tiny_thinker, "epochs": 2, "batch_size": 4, "lora_rank": 2, "save_every": 2}
        chosen |= {"log_every": 2} | settings
        options = [part for name, value in chosen.items() for part in (f"--finetune.{name}", str(value))]
        return ["--data", str(store), "--out", str(out), *options]

    return made


@pytest.fixture(scope="module")
def straight(command: Callable[..., list[str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("straight") / "run"
    main(command(out))
    return out


@pytest.fixture(scope="module")
def interrupted(command: Callable[..., list[str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("interrupted") / "run"
    killed(command(out), 5)
    assert sorted(path.name for path in out.glob("checkpoints/*")) == ["checkpoint-2", "checkpoint-4"]
    assert sorted(path.name for path in (out / LAST).iterdir()) == list(OF_CHECKPOINT)
    return out


def assert_same_end(out: Path, straight: Path) -> None:
    for name in RESULTS:
        if name != "README.md":
            assert (out / name).read_bytes() == (straight / name).read_bytes(), name
    for folder in (out, straight):
        assert json.loads((folder / "model.json").read_text())["files"].keys() == set(RESULTS)
    told = [
        [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        for folder in (out, straight)
    ]
    assert told[0][:-1] == told[1][:-1]
    assert told[0][-1]["train_loss"] == told[1][-1]["train_loss"]


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_whatever_is_left_of_a_file_the_run_ends_the_same(
    case: tuple[str, str],
    interrupted: Path,
    straight: Path,
    command: Callable[..., list[str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name, damage = case
    out = Path(shutil.copytree(interrupted, tmp_path / "run"))
    path = out / name if name in OF_RUN else out / LAST / name
    DAMAGES[damage](path)
    main(command(out))
    assert_same_end(out, straight)
    said = capsys.readouterr().out.splitlines()
    if name in OF_CHECKPOINT:
        assert [line for line in said if str(path) in line and line.endswith("is not used, and removed")]
        assert "finetune: goes on from checkpoint-2" in said
    else:
        assert "finetune: goes on from checkpoint-4" in said


def test_without_a_whole_checkpoint_it_begins_anew_and_says_so(
    interrupted: Path,
    straight: Path,
    command: Callable[..., list[str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = Path(shutil.copytree(interrupted, tmp_path / "run"))
    for checkpoint in out.glob("checkpoints/*"):
        (checkpoint / "optimizer.pt").write_bytes(b"")
    main(command(out))
    assert_same_end(out, straight)
    assert "finetune: no complete checkpoint is left; the training begins anew\n" in capsys.readouterr().out


@pytest.mark.parametrize("content", [b"", bytes(100)], ids=["empty", "zeros"])
def test_without_its_settings_a_run_is_not_continued_with_others(
    interrupted: Path, command: Callable[..., list[str]], tmp_path: Path, content: bytes
) -> None:
    """The checkpoints say what they are of, too."""
    out = Path(shutil.copytree(interrupted, tmp_path / "run"))
    (out / "run_config.json").write_bytes(content)
    with pytest.raises(
        UsageError, match=r"checkpoint-4 with other settings \(learning_rate was 0.001 and is"
    ):
        main(command(out, learning_rate=0.5))


@pytest.mark.parametrize(
    ("name", "damage"), [(name, KINDS[n % len(KINDS)]) for n, name in enumerate((*RESULTS, "model.json"))]
)
def test_a_broken_file_of_a_finished_model_is_made_again(
    straight: Path,
    store: Path,
    command: Callable[..., list[str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    damage: str,
) -> None:
    out = Path(shutil.copytree(straight, tmp_path / "run"))
    DAMAGES[damage](out / name)
    weights = name not in ("metrics.json", "predictions.parquet", "README.md")
    if weights:
        with pytest.raises((RunError, UsageError), match=name.replace(".", r"\.")) as refused:
            evaluation.main(["--model", str(out), "--data", str(store)])
        assert "\n" not in str(refused.value)
        assert "finetune" in str(refused.value)
    capsys.readouterr()
    main(command(out))
    said = capsys.readouterr().out
    if (name, damage) != ("model.json", "missing"):
        assert f"{out / name}" in said
        assert "; it is made again\n" in said
    assert_same_end(out, straight)


def test_a_broken_file_of_tower_outputs_is_made_again(
    straight: Path, command: Callable[..., list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also one whose numbers alone are broken."""
    shards = sorted((straight / "towers").glob("*.safetensors"))
    for damage in (*DAMAGES, "number"):
        towers = Path(shutil.copytree(straight / "towers", tmp_path / f"towers-{damage}"))
        path = towers / shards[0].name
        if damage == "number":
            content = bytearray(path.read_bytes())
            content[-20] ^= 64
            path.write_bytes(content)
        else:
            DAMAGES[damage](path)
        main(command(tmp_path / damage, tower_cache=towers))
        for name in RESULTS[:3]:
            assert (tmp_path / damage / name).read_bytes() == (straight / name).read_bytes()
        if damage != "missing":
            assert f"{path}: is broken (" in capsys.readouterr().out
        assert load_file(path) if path.exists() else True


def test_nothing_is_done_over_a_finished_run(
    straight: Path, command: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in straight.rglob("*") if path.is_file()}
    main(command(straight, save_every=7))
    assert {path: path.stat().st_mtime_ns for path in straight.rglob("*") if path.is_file()} == before
    assert "nothing is left to do" in capsys.readouterr().out

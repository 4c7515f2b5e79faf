"""The stage as a whole: what it writes, how it goes on, how it is started."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file

from finetune import evaluation
from finetune.__main__ import main
from finetune.training.resuming import newest_complete_checkpoint
from pipelines.durable.checkpoints import read_json_object
from pipelines.errors import RunError, UsageError
from pipelines.store import committed_generation
from pipelines.store_files.checksums import write_sealed
from tests import processes, tiny

ROOT = Path(__file__).resolve().parents[2]
FILES = ("adapter_model.safetensors", "head.safetensors")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [tiny.row(n) for n in range(5)] + [tiny.variant(n, 0.2 + 0.1 * n) for n in range(5)]
    rows[1] |= {"video": None}
    rows[2] |= {"audio": None}
    return tiny.store(tmp_path_factory.mktemp("store"), rows + [tiny.row(n, "test") for n in range(4)])


def arguments(store: Path, thinker: Path, out: Path, **settings: Any) -> list[str]:
    chosen = {
        "model": thinker,
        "epochs": 3,
        "batch_size": 2,
        "lora_rank": 2,
        "save_every": 2,
        "log_every": 1,
    } | settings
    given = [part for name, value in chosen.items() for part in (f"--finetune.{name}", str(value))]
    return ["--data", str(store), "--out", str(out), *given]


@pytest.fixture(scope="module")
def straight(store: Path, tiny_thinker: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing interrupted: 15 steps, 5 an epoch."""
    out = tmp_path_factory.mktemp("straight")
    main(arguments(store, tiny_thinker, out))
    return out


def losses(out: Path) -> list[float]:
    lines = (out / "log.jsonl").read_text().splitlines()
    return [entry["loss"] for entry in map(json.loads, lines) if "loss" in entry]


def test_it_writes_model_metrics_and_card(straight: Path) -> None:
    metrics = json.loads((straight / "metrics.json").read_text())["test"]
    assert metrics["before"]["MAE"] != metrics["after"]["MAE"]
    assert metrics["after"]["rows"] == 4
    assert json.loads((straight / "status.json").read_text())["state"] == "done"
    assert len(losses(straight)) == 15


def test_the_card_tells_data_weights_metrics_and_versions(straight: Path, store: Path) -> None:
    card = (straight / "README.md").read_text()
    metrics = json.loads((straight / "metrics.json").read_text())["test"]
    versions = json.loads((straight / "model.json").read_text())["versions"]
    for told in (
        f'Store "Tiny", generation `{committed_generation(store)}`, of the corpus\ntiny; originals: 5 train',
        ", 4 test.",
        "10 training rows: 5 original, 5 video",
        "Arm `weighted`: mean weight 0.700",  # five of 1, and 0.2 to 0.6
        f"| MAE | {metrics['before']['MAE']:g} | {metrics['after']['MAE']:g} |",
        "The last epoch was kept.",
        f"- torch {versions['torch']}",
        f"- peft {versions['peft']}",
    ):
        assert told in card
    assert ModelCard.load(straight / "README.md").data.to_dict()["library_name"] == "peft"


def test_it_first_tells_how_many_processes_there_are(
    store: Path, tiny_thinker: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """accelerate may have started others than it was asked for."""
    main(arguments(store, tiny_thinker, tmp_path, epochs=1))
    assert capsys.readouterr().out.startswith("finetune: 1 process(es) on cpu, 10 training rows")


def test_a_saved_model_rates_as_the_trained_one(straight: Path, store: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(straight, tmp_path / "copy"))
    known = json.loads((copy / "metrics.json").read_text())["test"]["after"]
    (copy / "metrics.json").unlink()
    command = ["--model", str(copy), "--data", str(store), "--batch_size", "3"]
    with pytest.raises(UsageError, match=r"metrics.json is missing; --overwrite replaces it"):
        evaluation.main(command)  # it held more than is evaluated
    evaluation.main([*command, "--overwrite"])
    assert json.loads((copy / "metrics.json").read_text())["test"]["after"] == pytest.approx(known)


def test_two_models_are_compared(
    straight: Path, store: Path, tiny_thinker: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the other's stored ratings where they are of the same rows, else by asking it."""
    first, second = (Path(shutil.copytree(straight, tmp_path / name)) for name in ("first", "second"))
    main(arguments(store, tiny_thinker, tmp_path / "third", epochs=1, learning_rate=0.05))
    command = ["--data", str(store), "--batch_size", "3", "--model", str(first), "--against"]
    told = {}
    for against in (second, tmp_path / "third"):
        evaluation.main([*command, str(against)])
        told[against.name] = json.loads((first / "comparison.json").read_text())["metrics"]["MAE"]
    assert told["second"]["difference"] == pytest.approx(0, abs=1e-4)
    assert told["third"]["difference"] != pytest.approx(0, abs=1e-3)
    assert "the model is evaluated" not in capsys.readouterr().out
    (tmp_path / "third" / "predictions.parquet").unlink()
    before = sorted(tmp_path.glob("third/*"))
    evaluation.main([*command, str(tmp_path / "third")])
    assert json.loads((first / "comparison.json").read_text())["metrics"]["MAE"] == told["third"]
    shutil.copyfile(first / "predictions.parquet", second / "predictions.parquet")
    train = [*command[:-3], "--model", str(first), "--split", "train", "--overwrite"]
    evaluation.main([*train, "--against", str(second)])
    assert "is of other rows (tiny/train/0: the other table lacks this row" in capsys.readouterr().out
    assert sorted(tmp_path.glob("third/*")) == before
    with pytest.raises(UsageError, match=r"--against: .*nowhere holds no model.json"):
        evaluation.main([*command[:-1], "--overwrite", "--against", str(tmp_path / "nowhere")])


@pytest.mark.parametrize("steps", [(4,), (10,), (4, 10), (6, 8), (10, 12)])
def test_a_killed_run_goes_on_to_the_same_end(
    straight: Path, store: Path, tiny_thinker: Path, tmp_path: Path, steps: tuple[int, ...]
) -> None:
    """From the middle of an epoch, from its end, and twice in a row."""
    for step in steps:
        resumable = _checkpoint(store, tiny_thinker, tmp_path, step)
    main(arguments(store, tiny_thinker, tmp_path))
    assert newest_complete_checkpoint(tmp_path / "checkpoints") != resumable
    for name in FILES:
        expected, found = load_file(straight / name), load_file(tmp_path / name)
        for key, value in expected.items():
            assert torch.equal(value, found[key]), key
    assert losses(tmp_path) == losses(straight)


def test_a_resumed_log_is_a_straight_ones(store: Path, tiny_thinker: Path, tmp_path: Path) -> None:
    """Also where entries cover several steps and a checkpoint lies between two."""
    settings = {"save_every": 2, "log_every": 3, "epochs": 2}
    main(arguments(store, tiny_thinker, tmp_path / "straight", **settings))
    _checkpoint(store, tiny_thinker, tmp_path / "resumed", 4, **settings)
    main(arguments(store, tiny_thinker, tmp_path / "resumed", **settings))
    told = [
        [line for line in (tmp_path / name / "log.jsonl").read_text().splitlines() if "runtime" not in line]
        for name in ("straight", "resumed")
    ]
    assert told[0] == told[1]
    assert len(told[0]) == 7  # after steps 2, 3, 4, 6, 8, 9 and 10


def _checkpoint(store: Path, thinker: Path, out: Path, step: int, **settings: Any) -> Path:
    """Run again in `out`, as if killed after `step` steps with half a checkpoint on disk."""
    from finetune.training.trainer import WeightedTrainer

    class Killed(Exception):
        pass

    original = WeightedTrainer.training_step

    def until(self: WeightedTrainer, *args: Any, **kwargs: Any) -> torch.Tensor:
        if self.state.global_step == step + 1:
            raise Killed
        return original(self, *args, **kwargs)

    WeightedTrainer.training_step = until  # type: ignore[method-assign]
    try:
        with pytest.raises(Killed):
            main(arguments(store, thinker, out, **settings))
    finally:
        WeightedTrainer.training_step = original  # type: ignore[method-assign]
    whole = newest_complete_checkpoint(out / "checkpoints")
    assert whole is not None
    assert whole.name == f"checkpoint-{step}"
    half = Path(shutil.copytree(whole, whole.with_name(f"checkpoint-{step + 2}")))
    (half / "whole.json").unlink()
    (half / "head.safetensors").write_bytes(b"half")
    return whole


@pytest.mark.slow
def test_a_run_killed_twice_by_a_signal_goes_on_to_the_same_end(
    straight: Path, store: Path, tiny_thinker: Path, tmp_path: Path
) -> None:
    command = arguments(store, tiny_thinker, tmp_path)
    for step in (2, 8):
        processes.kill("finetune", command, once=lambda: _saved(tmp_path, step))  # noqa: B023
        assert not (tmp_path / "model.json").exists()
    processes.run("finetune", command)
    for name in FILES:
        torch.testing.assert_close(
            load_file(tmp_path / name), load_file(straight / name), rtol=1e-5, atol=1e-7
        )
    assert losses(tmp_path) == pytest.approx(losses(straight), rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("start", [["finetune"], ["-m", "finetune"]])
def test_accelerate_launches_it_as_a_folder_and_as_a_module(
    start: list[str], straight: Path, store: Path, tiny_thinker: Path, tmp_path: Path
) -> None:
    launcher = ["accelerate.commands.launch", "--cpu", "--num_processes", "1", "--num_machines", "1"]
    launcher += ["--mixed_precision", "no", "--dynamo_backend", "no", *start]
    processes.run(launcher[0], [*launcher[1:], *arguments(store, tiny_thinker, tmp_path)])
    assert losses(tmp_path) == pytest.approx(losses(straight), rel=1e-5)


def _saved(out: Path, step: int) -> bool:
    whole = newest_complete_checkpoint(out / "checkpoints")
    return whole is not None and int(whole.name.removeprefix("checkpoint-")) >= step


@pytest.mark.parametrize(
    ("name", "before", "now"), [("learning_rate", 0.001, 0.002), ("batch_size", 2, 1), ("accumulation", 1, 2)]
)
def test_other_settings_are_refused(
    straight: Path, store: Path, tiny_thinker: Path, name: str, before: float, now: float
) -> None:
    with pytest.raises(UsageError, match=rf"{name} was {before} and is {now}"):
        main(arguments(store, tiny_thinker, straight, **{name: now}))


def test_another_number_of_processes_is_refused(store: Path, tiny_thinker: Path, tmp_path: Path) -> None:
    """Before the model is loaded: the checkpoint tells."""
    whole = _checkpoint(store, tiny_thinker, tmp_path, 4) / "whole.json"
    write_sealed(whole, read_json_object(whole) | {"ranks": 2})
    before = losses(tmp_path)
    wanted = r"checkpoint-4 was written by 2 process\(es\), and 1 were started; go on with `accelerate"
    with pytest.raises(UsageError, match=wanted):
        main(arguments(store, tiny_thinker, tmp_path))
    assert losses(tmp_path) == before


def test_an_unknown_model_is_refused(store: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"finetune.model: .*nowhere"):
        main(arguments(store, tmp_path / "nowhere", tmp_path / "out"))


def test_a_tower_cache_that_is_no_folder_or_in_the_store_is_refused(
    store: Path, tiny_thinker: Path, tmp_path: Path
) -> None:
    for cache, message in ((__file__, "is a file; takes a folder"), (store / "t", "is inside --data")):
        with pytest.raises(UsageError, match=rf"^finetune\.tower_cache: .* {message}"):
            main(arguments(store, tiny_thinker, tmp_path / "out", tower_cache=cache))
    assert not (tmp_path / "out").exists()


def test_a_store_with_damaged_settings_is_refused_before_the_training(
    store: Path, tiny_thinker: Path, tmp_path: Path
) -> None:
    damaged = Path(shutil.copytree(store, tmp_path / "store"))
    path = damaged / "settings.json"
    path.write_text(path.read_text().replace('"title"', '"tithe"'))
    with pytest.raises(RunError, match=r"settings\.json"):
        main(arguments(damaged, tiny_thinker, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_model_of_another_kind_is_refused(store: Path, tmp_path: Path) -> None:
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(UsageError, match="is a bert; takes qwen2_5_omni"):
        main(arguments(store, tmp_path / "bert", tmp_path / "out"))


def test_no_module_is_named_like_an_installed_one() -> None:
    """`accelerate launch finetune` puts the package's folder first on the path."""
    names = [path.stem for path in (ROOT / "finetune").glob("*.py") if not path.stem.startswith("__")]
    names += [path.name for path in (ROOT / "finetune").iterdir() if (path / "__init__.py").exists()]
    assert names
    for name in names:
        assert name not in sys.stdlib_module_names, name
        assert importlib.util.find_spec(name) is None, name


@pytest.mark.parametrize("start", [["finetune"], ["-m", "finetune"]])
def test_it_starts_as_a_folder_and_as_a_module(start: list[str]) -> None:
    ran = subprocess.run(
        [sys.executable, *start, "--finetune.arm", "none"], cwd=ROOT, capture_output=True, text=True
    )
    assert ran.returncode == 2
    assert ran.stderr.count("\n") == 1
    assert "arm" in ran.stderr


@pytest.mark.slow
def test_two_ranks_train_towers_that_one_of_them_has_nothing_for(tiny_thinker: Path, tmp_path: Path) -> None:
    rows = [
        tiny.row(n, **dict.fromkeys(lacking))
        for n, lacking in enumerate([["video"], ["audio"], [], ["video", "audio"]])
    ]
    store = tiny.store(tmp_path / "store", rows + [tiny.row(n, "test") for n in range(2)])
    settings: dict[str, Any] = {"epochs": 2, "adapt": "[language,projectors,vision,audio]"}
    main(arguments(store, tiny_thinker, tmp_path / "one", batch_size=2, **settings))
    processes.run_two("finetune", arguments(store, tiny_thinker, tmp_path / "two", batch_size=1, **settings))
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-3)


@pytest.mark.slow
def test_two_ranks_train_as_one(store: Path, tiny_thinker: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    main(arguments(store, tiny_thinker, one, batch_size=4, epochs=1))
    told = processes.run_two("finetune", arguments(store, tiny_thinker, two, batch_size=2, epochs=1))
    assert told.startswith("finetune: 2 process(es) on cpu, 10 training rows")
    assert losses(two) == pytest.approx(losses(one), rel=1e-4)
    first, second = (load_file(out / "head.safetensors")["weight"] for out in (one, two))
    before = [json.loads((out / "metrics.json").read_text())["test"]["before"] for out in (one, two)]
    assert before[0] == before[1]
    with pytest.raises(UsageError, match="by 2 process"):
        main(arguments(store, tiny_thinker, two, batch_size=2, epochs=1))
    torch.testing.assert_close(second, first, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_two_ranks_evaluate_as_one(straight: Path, store: Path, tiny_thinker: Path, tmp_path: Path) -> None:
    """To the byte: they take turns by batches, which are those of one process, and the first one writes."""
    main(arguments(store, tiny_thinker, tmp_path / "other", epochs=1, learning_rate=0.05))
    (tmp_path / "other" / "predictions.parquet").unlink()
    told, found = {}, {}
    for name, run in (("one", processes.run), ("two", processes.run_two)):
        model = Path(shutil.copytree(straight, tmp_path / name))
        command = ["--model", str(model), "--data", str(store), "--split", "train", "--batch_size", "2"]
        command += ["--overwrite"]
        told[name] = run("finetune.evaluation", [*command, "--against", str(tmp_path / "other")])
        found[name] = [(model / file).read_bytes() for file in ("predictions.parquet", "metrics.json")]
    assert told["two"] == told["one"]
    assert told["one"].count('"MAE"') == 1
    assert found["two"] == found["one"]

"""The frozen language model cut up among two processes: the same training, with half of it in each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from finetune.run import main
from pipelines.errors import UsageError
from tests import processes, tiny
from tests.finetune import test_what_must_hold as command

FILES = ("adapter_model.safetensors", "head.safetensors")
START = "tests.finetune.warm_start"
VALID = [tiny.row(n, "valid") for n in range(3)]  # no even share for two
SETTINGS = {
    "epochs": 4,
    "batch_size": 1,
    "best_by": "MAE",
    "head_learning_rate": 0.01,
    "conflict": json.dumps({"threshold": 1.0}),  # its hooks sit on the same modules
}


def arguments(folder: Path, **settings: Any) -> list[str]:
    """Two steps an epoch on two processes; epochs are rated on three rows."""
    given = [*command.rows(command.WEIGHTS), *VALID]
    return command.command(folder, given, **SETTINGS | settings)


def log(folder: Path) -> list[dict[str, float]]:
    lines = map(json.loads, (folder / "out" / "log.jsonl").read_text().splitlines())
    return [
        {name: value for name, value in entry.items() if "runtime" not in name and "per_second" not in name}
        for entry in lines
    ]


def assert_equal_ends(one: Path, other: Path) -> None:
    for name in FILES:
        values, others = load_file(one / "out" / name), load_file(other / "out" / name)
        assert values.keys() == others.keys()
        assert all(torch.equal(value, others[key]) for key, value in values.items())


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose frozen model is cut up."""
    folder = tmp_path_factory.mktemp("cut")
    processes.run_two(START, arguments(folder, shard=True))
    return folder


@pytest.mark.slow
def test_each_process_holds_half_of_the_layers(tiny_thinker: Path) -> None:
    lines = processes.run_two("tests.finetune.shares", [str(tiny_thinker)]).splitlines()
    found = [json.loads(line) for line in lines if line.startswith("{")]
    assert len(found) == 2
    for told in found:
        assert 0.45 < told["held"] / told["all"] < 0.55
        assert told["trained_whole"]
        assert told["gradients"] == 1
        assert told["cut"] == pytest.approx(told["whole"], rel=1e-5)
    assert sum(told["held"] for told in found) >= found[0]["all"]
    assert found[0]["whole"] != found[1]["whole"], "both were shown the same clip"


@pytest.mark.slow
def test_a_step_has_the_gradients_of_one_process(tmp_path: Path) -> None:
    expected = command.found(tmp_path / "one", command.rows(command.WEIGHTS))
    cut = command.command(tmp_path / "cut", command.rows(command.WEIGHTS), batch_size=2, shard=True)
    processes.run_two(START, cut)
    assert command.distance(command.gradients(tmp_path / "cut"), expected) < 1e-5


@pytest.mark.slow
def test_it_trains_as_two_whole_processes_to_the_bit(straight: Path, tmp_path: Path) -> None:
    """Losses, ratings of valid in each epoch, the epoch that is kept, adapter and head."""
    processes.run_two(START, arguments(tmp_path))
    told = log(straight)
    assert len([entry for entry in told if "eval_MAE" in entry]) == 4
    assert log(tmp_path) == told
    assert_equal_ends(tmp_path, straight)
    one, other = (
        json.loads((folder / "out" / "metrics.json").read_text()) for folder in (straight, tmp_path)
    )
    assert one == other


@pytest.mark.slow
def test_stopped_by_a_signal_it_goes_on_to_the_same_end(straight: Path, tmp_path: Path) -> None:
    own = arguments(tmp_path, shard=True)
    checkpoints = tmp_path / "out" / "checkpoints"
    code, said = processes.terminate(
        START, own, once=lambda: list(checkpoints.glob("checkpoint-*/whole.json")), ranks=2
    )
    assert code
    assert "SIGTERM stopped the training" in said
    assert not (tmp_path / "out" / "model.json").exists()
    processes.run_two(START, own)
    assert_equal_ends(tmp_path, straight)


@pytest.mark.slow
def test_a_model_that_was_trained_so_is_opened_by_one_process(straight: Path) -> None:
    from finetune.evaluation import main as evaluate

    out = straight / "out"
    before = json.loads((out / "metrics.json").read_text())["test"]["after"]["MAE"]
    evaluate(["--model", str(out), "--data", str(straight / "store")])
    assert json.loads((out / "metrics.json").read_text())["test"]["after"]["MAE"] == before


def test_one_process_has_nobody_to_share_with(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"finetune.shard: got true in a run of one process; .* --multi_gpu"):
        main(arguments(tmp_path, shard=True))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ({"quantize": "nf4"}, "got true with quantize: nf4"),
        ({"adapt": ("language", "audio")}, r"it takes adapt: \[language\]"),
    ],
    ids=["4 bits", "trained towers"],
)
def test_what_cannot_be_cut_up_is_refused(setting: dict[str, Any], told: str) -> None:
    from finetune.settings import FinetuneConfig
    from finetune.sharding import check_sharding

    check_sharding(FinetuneConfig(**setting), 2)
    with pytest.raises(UsageError, match=rf"finetune.shard: .*{told}"):
        check_sharding(FinetuneConfig(shard=True, **setting), 2)

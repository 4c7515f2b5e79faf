"""Under DeepSpeed's ZeRO stages 1 and 2 two processes train as one: real runs, on a CPU with gloo."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from finetune.__main__ import main
from tests import processes
from tests.finetune import test_what_must_hold as command
from tests.finetune.model import test_fsdp as runs

pytest.importorskip("deepspeed")
pytestmark = pytest.mark.slow
STAGES = (1, 2)


def launcher(stage: int) -> list[str]:
    """What accelerate is told beside the number of processes."""
    return ["--use_deepspeed", "--zero_stage", str(stage)]


@pytest.mark.parametrize("stage", STAGES)
def test_two_processes_train_as_one(stage: int, tmp_path: Path) -> None:
    """Over accumulated batches: DeepSpeed divides by ranks, and must not divide by batches."""
    main(runs.arguments(tmp_path / "one", batch_size=4))
    chosen = runs.arguments(tmp_path / "two", batch_size=1, accumulation=2)
    processes.run_two("finetune", chosen, launcher(stage))
    assert list((tmp_path / "two").glob("out/checkpoints/checkpoint-*/global_step*/zero_pp_rank_1_*"))
    runs.assert_same_training(tmp_path / "one", tmp_path / "two", 4)


@pytest.mark.parametrize("stage", STAGES)
def test_a_step_of_zero_weights_changes_nothing(stage: int, tmp_path: Path) -> None:
    settings = {"batch_size": 1, "accumulation": 2, "weight_decay": 0.5}
    given = command.rows([0.0] * 4)
    processes.run_two("finetune", command.command(tmp_path, given, **settings), launcher(stage))
    assert runs.log(tmp_path, "loss") == [0]
    found = load_file(tmp_path / "out" / "adapter_model.safetensors")
    main(command.command(tmp_path / "one", given, **settings))
    fresh = load_file(tmp_path / "one" / "out" / "adapter_model.safetensors")
    assert all(torch.equal(value, fresh[name]) for name, value in found.items())


@pytest.mark.parametrize("stage", STAGES)
def test_stopped_by_a_signal_it_goes_on_to_the_same_end(stage: int, tmp_path: Path) -> None:
    straight = runs.arguments(tmp_path / "straight", batch_size=1)
    processes.run_two("finetune", straight, launcher(stage))
    own = runs.arguments(tmp_path / "stopped", batch_size=1)
    checkpoints = tmp_path / "stopped" / "out" / "checkpoints"
    code, said = processes.terminate(
        "finetune",
        own,
        once=lambda: list(checkpoints.glob("checkpoint-*/whole.json")),
        ranks=2,
        launcher=launcher(stage),
    )
    assert code
    assert "SIGTERM stopped the training" in said
    processes.run_two("finetune", own, launcher(stage))
    runs.assert_same_training(tmp_path / "straight", tmp_path / "stopped", 8)

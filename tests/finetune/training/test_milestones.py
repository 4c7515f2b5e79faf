"""A training that SIGTERM stops goes on to the end of one that nothing stopped."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from finetune.__main__ import main
from finetune.training.resuming import newest_complete_checkpoint
from finetune.training.trainer import WeightedTrainer
from pipelines.durable.checkpoints import MARKER
from tests import processes, tiny

EPOCHS, STEPS = 12, 60


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [tiny.row(n) for n in range(5)] + [tiny.variant(n, 0.2 + 0.1 * n) for n in range(5)]
    rows += [tiny.row(n, "valid") for n in range(3)] + [tiny.row(n, "test") for n in range(3)]
    return tiny.store(tmp_path_factory.mktemp("store"), rows)


def command(store: Path, thinker: Path, out: Path, ranks: int = 1) -> list[str]:
    """60 steps, 5 an epoch, on one rank or two."""
    settings = {"model": thinker, "epochs": EPOCHS, "batch_size": 2 // ranks, "lora_rank": 2, "save_every": 3}
    settings |= {"log_every": 1, "best_by": "MAE"}
    options = [part for name, value in settings.items() for part in (f"--finetune.{name}", str(value))]
    return ["--data", str(store), "--out", str(out), *options]


def told(out: Path) -> list[dict[str, Any]]:
    lines = (out / "log.jsonl").read_text().splitlines()
    return [entry for entry in map(json.loads, lines) if "train_runtime" not in entry]


def assert_same_end(one: Path, other: Path) -> None:
    for name in ("adapter_model.safetensors", "head.safetensors"):
        torch.testing.assert_close(load_file(one / name), load_file(other / name), rtol=1e-5, atol=1e-7)
    assert len(told(one)) == len(told(other)) == STEPS + EPOCHS
    for entry, expected in zip(told(one), told(other), strict=True):
        assert entry == pytest.approx(expected, rel=1e-4, abs=1e-4)
    assert json.loads((one / "metrics.json").read_text()) == json.loads((other / "metrics.json").read_text())


def assert_stopped(out: Path, code: int, said: str) -> None:
    assert code == 1
    lines = [line for line in said.splitlines() if "SIGTERM stopped the training" in line]
    assert len(lines) == 1
    assert lines[0].endswith("it is saved, and the same command goes on from there")
    assert json.loads((out / "status.json").read_text())["state"] == "stopped"
    whole = newest_complete_checkpoint(out / "checkpoints")
    assert whole is not None
    assert f"step {whole.name.removeprefix('checkpoint-')} of {STEPS};" in lines[0]
    assert not (out / "model.json").exists()


@pytest.mark.parametrize("step", [4, 5, 6, STEPS], ids="within {}".format)
def test_a_stop_within_any_step_loses_nothing(
    straight: Path, store: Path, tiny_thinker: Path, tmp_path: Path, step: int
) -> None:
    """In the middle of an epoch, at its end, where a checkpoint is due anyway, and in the last step."""
    arguments = command(store, tiny_thinker, tmp_path)
    saved_steps: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WeightedTrainer, "training_step", terminated_within(step))
        patch.setattr(WeightedTrainer, "_save_checkpoint", noting(saved_steps))
        with pytest.raises(SystemExit) as left:
            main(arguments)
    assert left.value.code == 1
    # A whole checkpoint is never written over: killed meanwhile, it would look whole and not be.
    assert len(saved_steps) == len(set(saved_steps))
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert [entry["step"] for entry in told(tmp_path) if "eval_MAE" in entry] == list(range(5, step + 1, 5))
    whole = newest_complete_checkpoint(tmp_path / "checkpoints")
    assert whole is not None
    assert whole.name == f"checkpoint-{step}"
    main(arguments)
    assert_same_end(tmp_path, straight)


def test_a_run_killed_while_it_evaluates_evaluates_again(
    straight: Path, store: Path, tiny_thinker: Path, tmp_path: Path
) -> None:
    """Behind step 15 both a checkpoint and an epoch's evaluation are due: none may miss the other."""

    def killed(trainer: WeightedTrainer, *args: Any, **kwargs: Any) -> dict[str, float]:
        if trainer.state.global_step == 15:
            raise KeyboardInterrupt
        return evaluate(trainer, *args, **kwargs)

    evaluate = WeightedTrainer.evaluate
    arguments = command(store, tiny_thinker, tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WeightedTrainer, "evaluate", killed)
        with pytest.raises(KeyboardInterrupt):
            main(arguments)
    main(arguments)
    assert_same_end(tmp_path, straight)


def terminated_within(step: int) -> Any:
    """A training step in which this process gets a SIGTERM."""
    original = WeightedTrainer.training_step

    def training_step(trainer: WeightedTrainer, *args: Any, **kwargs: Any) -> torch.Tensor:
        if trainer.state.global_step == step - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(trainer, *args, **kwargs)

    return training_step


def noting(steps: list[int]) -> Any:
    """Saving a checkpoint, and noting its step."""
    original = WeightedTrainer._save_checkpoint

    def _save_checkpoint(trainer: WeightedTrainer, *args: Any, **kwargs: Any) -> None:
        steps.append(trainer.state.global_step)
        original(trainer, *args, **kwargs)

    return _save_checkpoint


@pytest.fixture(scope="module")
def straight(store: Path, tiny_thinker: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("straight")
    main(command(store, tiny_thinker, out))
    return out


@pytest.mark.slow
def test_sigterm_saves_and_the_command_goes_on(
    straight: Path, store: Path, tiny_thinker: Path, tmp_path: Path
) -> None:
    """Twice in a row."""
    arguments = command(store, tiny_thinker, tmp_path)
    code, said = processes.terminate("finetune", arguments, once=lambda: saved(tmp_path, 1))
    assert_stopped(tmp_path, code, said)
    code, said = processes.terminate("finetune", arguments, once=lambda: saved(tmp_path, 20))
    assert_stopped(tmp_path, code, said)
    processes.run("finetune", arguments)
    assert_same_end(tmp_path, straight)


@pytest.mark.slow
@pytest.mark.parametrize("only_rank", [None, 1])
def test_sigterm_stops_two_ranks_at_the_same_step(
    store: Path, tiny_thinker: Path, tmp_path: Path, two_ranks: Path, only_rank: int | None
) -> None:
    arguments = command(store, tiny_thinker, tmp_path, ranks=2)
    code, said = processes.terminate(
        "finetune", arguments, once=lambda: saved(tmp_path, 1), ranks=2, only_rank=only_rank
    )
    assert_stopped(tmp_path, code, said)
    processes.run_two("finetune", arguments)
    assert_same_end(tmp_path, two_ranks)


@pytest.fixture(scope="module")
def two_ranks(store: Path, tiny_thinker: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("two_ranks")
    processes.run_two("finetune", command(store, tiny_thinker, out, ranks=2))
    return out


def saved(out: Path, step: int) -> bool:
    """Whether a checkpoint of this step or a later one is whole."""
    numbers = [int(path.parent.name.rpartition("-")[2]) for path in out.glob(f"checkpoints/*/{MARKER}")]
    return max(numbers, default=0) >= step

"""Two processes train as one, are told of once, and go on where they were stopped."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import torch
from safetensors.torch import load_file

from finetune.fusion.__main__ import main
from finetune.fusion.distributed import sum_in_place
from pipelines.errors import RunError
from tests import processes

MODULE = "finetune.fusion"


def command(data: Path, out: Path, *, batch_size: int, **settings: object) -> list[str]:
    """Two epochs without dropout, since processes drop out other features."""
    given = {
        "seeds": "[1]",
        **{"network.width": 16, "network.heads": 2, "network.steps": 6, "network.dropout": 0.0},
        **{"training.epochs": 2, "training.batch_size": batch_size, "training.device": "cpu"},
        **{"conflict.threshold": 1.0, "losses.statistics": 1.0},
        **settings,
    }
    options = [part for name, value in given.items() for part in (f"--fusion.{name}", str(value))]
    return ["--data", str(data), "--out", str(out), *options]


def predictions(out: Path) -> np.ndarray:
    return pyarrow.parquet.read_table(out / "predictions.parquet")["prediction"].to_numpy()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "accumulation", "batch_size"),
    [
        ("conflict_penalty", 1, 6),
        ("conflict_penalty", 2, 6),
        ("ogm_ge", 1, 40),  # all 40 clips are the first process'
        ("cggm", 2, 6),
        ("mmpareto", 1, 6),
    ],
)
def test_two_processes_train_as_one(
    data: Path, tmp_path: Path, method: str, accumulation: int, batch_size: int
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    settings = {"balance.method": method, "training.accumulation": accumulation}
    main(command(data, one, batch_size=2 * batch_size, **settings))
    told = processes.run_two(MODULE, command(data, two, batch_size=batch_size, **settings))
    assert told.count("seed 1:") == 1
    np.testing.assert_allclose(predictions(two), predictions(one), atol=1e-5)
    steps = [pyarrow.parquet.read_table(out / "seed-1" / "steps.parquet").to_pandas() for out in (one, two)]
    np.testing.assert_allclose(steps[1].astype(float), steps[0].astype(float), atol=1e-4)
    histories = [
        [json.loads(line) for line in (out / "seed-1" / "history.jsonl").read_text().splitlines()]
        for out in (one, two)
    ]
    for first, second in zip(*histories, strict=True):
        assert second["losses"] == pytest.approx(first["losses"], abs=1e-5)
        assert second["valid_mae"] == pytest.approx(first["valid_mae"], abs=2e-4)


def seen(path: Path) -> Callable[[], bool]:
    return path.is_file


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2])
def test_what_sigterm_stops_goes_on_to_the_same_end(data: Path, tmp_path: Path, ranks: int) -> None:
    settings = {"training.epochs": 16, "training.patience": 16, "network.dropout": 0.2}
    straight, stopped = (
        command(data, tmp_path / name, batch_size=8, **settings) for name in ("straight", "stopped")
    )
    checkpoint = tmp_path / "stopped" / "seed-1" / "checkpoint.pt"
    last = None if ranks == 1 else ranks - 1
    code, said = processes.terminate(MODULE, stopped, once=seen(checkpoint), ranks=ranks, only_rank=last)
    assert code == 1
    assert "SIGTERM stopped the training after epoch" in said
    assert checkpoint.is_file()
    for arguments in (stopped, straight):
        processes.run(MODULE, arguments) if ranks == 1 else processes.run_two(MODULE, arguments)
    weights = [load_file(tmp_path / name / "model.safetensors") for name in ("straight", "stopped")]
    assert all(torch.equal(weights[1][name], value) for name, value in weights[0].items())


@pytest.mark.slow
def test_a_checkpoint_of_other_processes_is_refused(data: Path, tmp_path: Path) -> None:
    arguments = command(
        data, tmp_path / "out", batch_size=8, **{"training.epochs": 400, "training.patience": 400}
    )
    checkpoint = tmp_path / "out" / "seed-1" / "checkpoint.pt"
    processes.terminate(MODULE, arguments, once=seen(checkpoint), ranks=2, only_rank=0)
    with pytest.raises(RunError, match="of a training in 2 processes, and this one is in 1"):
        main(arguments)


def test_sums_take_each_tensors_place_by_type() -> None:
    tensors = [torch.ones(2, 3), torch.full((4,), 2.0, dtype=torch.float64), torch.full((1,), 3.0)]
    calls = []

    def doubled(value: torch.Tensor) -> torch.Tensor:
        calls.append(value.dtype)
        return 2 * value

    sum_in_place(tensors, doubled)
    assert [tensor.unique().tolist() for tensor in tensors] == [[2.0], [4.0], [6.0]]
    assert sorted(map(str, calls)) == ["torch.float32", "torch.float64"]

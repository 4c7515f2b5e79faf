"""What must hold of the weighted loss, on the embedded model through the real command.

Gradients are read from the first checkpoint: after one step, AdamW's first moment is a tenth of
the gradient. Adapters would not do: a first step moves each parameter by its rate times the
gradient's sign, whatever the gradient's size.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from finetune.inputs.batch import collate
from finetune.inputs.dataset import EncodedRows, EpochOrder
from finetune.objective import WeightError
from finetune.settings import FinetuneConfig
from finetune.training.validation import predict
from pipelines.store import StoreReader
from tests import processes, tiny
from tests.finetune import warm_start

WEIGHTS = [1.0, 0.1, 0.7, 0.3]
ORIGINALS = [tiny.row(n) for n in range(4)]
TEST = tiny.row(9, "test")
Row = dict[str, Any]
Tensors = dict[str, torch.Tensor]


def rows(weights: list[float]) -> list[Row]:
    """Training rows with these weights, without sound or picture here and there."""
    rows = [row | {"weight": weight} for row, weight in zip(ORIGINALS, weights, strict=True)]
    return [rows[0], rows[1] | {"video": None}, rows[2] | {"audio": None}, rows[3]]


def command(folder: Path, given: list[Row], **settings: Any) -> list[str]:
    """The command's arguments: one step over all rows at once, unless told otherwise."""
    store = tiny.store(folder / "store", [*given, TEST])
    chosen = {"epochs": 1, "batch_size": 4, "max_grad_norm": 0, "warmup": 0, "save_every": 1, "log_every": 1}
    chosen |= {"lora_rank": 2, "video_fps": 10, "loss": "l2"} | settings
    options = [part for name, value in chosen.items() for part in (f"--finetune.{name}", str(value))]
    return ["--data", str(store), "--out", str(folder / "out"), *options]


def gradients(folder: Path) -> list[torch.Tensor]:
    saved = torch.load(folder / "out" / "checkpoints" / "checkpoint-1" / "optimizer.pt", weights_only=True)
    return [saved["state"][index]["exp_avg"] / 0.1 for index in sorted(saved["state"])]


def found(folder: Path, given: list[Row], **settings: Any) -> list[torch.Tensor]:
    """The gradients of the command's first step."""
    warm_start.main(command(folder, given, **settings))
    return gradients(folder)


def log(folder: Path) -> list[dict[str, float]]:
    lines = (folder / "out" / "log.jsonl").read_text().splitlines()
    return [entry for entry in map(json.loads, lines) if "loss" in entry]


def distance(ones: list[torch.Tensor], others: list[torch.Tensor]) -> float:
    """The largest difference of a tensor's values, in units of its largest value."""
    assert len(ones) == len(others) > 10
    assert all(float(other.abs().max()) > 0 for other in others)
    pairs = zip(ones, others, strict=True)
    return max(float((one - other).abs().max() / other.abs().max()) for one, other in pairs)


@pytest.fixture(scope="module")
def weighted(tmp_path_factory: pytest.TempPathFactory) -> list[torch.Tensor]:
    """Gradients of one step over four weighted rows."""
    return found(tmp_path_factory.mktemp("weighted"), rows(WEIGHTS))


def warm_model(folder: Path) -> tuple[Any, EncodedRows]:
    config = FinetuneConfig(lora_rank=2, video_fps=10)
    model, encoder = warm_start.build(config, "mosi", seed=0)
    return model, EncodedRows(StoreReader(folder / "store"), encoder, 100)


def test_weights_of_one_are_the_plain_loss(tmp_path: Path) -> None:
    """Weighted with ones, uniform whatever the weights, and a plain PyTorch loop: one gradient."""
    ones = found(tmp_path / "ones", rows([1.0] * 4))
    uniform = found(tmp_path / "uniform", rows(WEIGHTS), arm="uniform")
    model, inputs = warm_model(tmp_path / "ones")
    batch = collate(
        inputs.many([row["id"] for row in ORIGINALS]), inputs.encoder.processor.tokenizer.pad_token_id
    )
    labels = torch.tensor([row["label"] for row in ORIGINALS])
    loss = torch.nn.functional.mse_loss(model(**batch) / 3, labels / 3)
    loss.backward()
    named = [(name, value.grad) for name, value in model.named_parameters() if value.requires_grad]
    plain = [grad for name, grad in named if "head" not in name]
    plain += [grad for name, grad in named if "head" in name]
    assert distance(ones, plain) < 1e-5
    assert distance(uniform, plain) < 1e-5
    assert log(tmp_path / "ones")[0]["loss"] == pytest.approx(loss.item(), rel=1e-5)


@pytest.mark.parametrize(("batch_size", "accumulation"), [(1, 4), (2, 2)])
def test_batches_and_accumulation_change_nothing(
    weighted: list[torch.Tensor], tmp_path: Path, batch_size: int, accumulation: int
) -> None:
    apart = found(tmp_path, rows(WEIGHTS), batch_size=batch_size, accumulation=accumulation)
    assert distance(apart, weighted) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize(("batch_size", "accumulation"), [(2, 1), (1, 2)])
def test_ranks_change_nothing(
    weighted: list[torch.Tensor], tmp_path: Path, batch_size: int, accumulation: int
) -> None:
    arguments = command(tmp_path, rows(WEIGHTS), batch_size=batch_size, accumulation=accumulation)
    processes.run_two("tests.finetune.warm_start", arguments)
    assert distance(gradients(tmp_path), weighted) < 1e-5


def test_micro_batches_of_one_keep_their_effect(tmp_path: Path) -> None:
    """Per micro-batch, Σ w ℓ / Σ w would be ℓ, and the weights would be lost."""
    settings = {"batch_size": 1, "accumulation": 4}
    by_weight = found(tmp_path / "weighted", rows(WEIGHTS), **settings)
    alike = found(tmp_path / "uniform", rows(WEIGHTS), arm="uniform", **settings)
    assert distance(by_weight, alike) > 0.05
    model, inputs = warm_model(tmp_path / "weighted")
    ratings = predict(model, inputs, [row["id"] for row in ORIGINALS], 4)
    losses = [((rating - row["label"]) / 3) ** 2 for rating, row in zip(ratings, ORIGINALS, strict=True)]
    expected = sum(loss * weight for loss, weight in zip(losses, WEIGHTS, strict=True)) / sum(WEIGHTS)
    assert log(tmp_path / "weighted")[0]["loss"] == pytest.approx(expected, rel=1e-5)
    assert expected != pytest.approx(sum(losses) / 4, rel=0.05)


@pytest.mark.parametrize("factor", [0.3, 7.0])
def test_scale_of_weights_changes_nothing(
    weighted: list[torch.Tensor], tmp_path: Path, factor: float
) -> None:
    scaled = [weight * factor for weight in WEIGHTS]
    assert distance(found(tmp_path, rows(scaled), batch_size=2, accumulation=2), weighted) < 1e-5


def test_halved_weights_end_at_the_same_adapter(tmp_path: Path) -> None:
    """To the bit: halving is exact, over several steps of a real optimizer."""
    ends = []
    for name, factor in (("whole", 1.0), ("half", 0.5)):
        given = rows([weight * factor for weight in WEIGHTS])
        warm_start.main(command(tmp_path / name, given, epochs=3, batch_size=1, accumulation=2, warmup=0.5))
        ends.append(trained(tmp_path / name / "out"))
    assert ends[0].keys() == ends[1].keys()
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())


def test_weight_zero_is_an_absent_row(tmp_path: Path) -> None:
    with_zero = found(tmp_path / "zero", rows([1.0, 0.1, 0.7, 0.0]))
    without = found(tmp_path / "absent", rows([1.0, 0.1, 0.7, 0.0])[:3])
    assert distance(with_zero, without) < 1e-5


def test_weight_two_is_the_row_twice(tmp_path: Path) -> None:
    single = rows(WEIGHTS)
    doubled = [row | {"weight": 2.0} if row is single[0] else row for row in single]
    again = single[0] | {"id": f"{single[0]['id']}#video-0", "kind": "video"}
    twice = found(tmp_path / "twice", [*single, again], batch_size=5)
    assert distance(found(tmp_path / "two", doubled), twice) < 1e-5


@pytest.mark.parametrize("weight", [float("nan"), -0.5, float("inf"), None])
def test_weights_that_cannot_be_used_are_refused_by_id(tmp_path: Path, weight: float | None) -> None:
    given = rows(WEIGHTS)
    given[2] |= {"weight": weight}
    with pytest.raises(WeightError, match=rf"^{given[2]['id']}: "):
        warm_start.main(command(tmp_path, given))
    assert not (tmp_path / "out" / "checkpoints").exists()


def test_a_step_of_zero_weights_does_not_step(tmp_path: Path) -> None:
    """Neither parameters nor momenta move, though a decay of weights would pull at both."""
    last = list(EpochOrder(4, 1, seed=0))[-1]
    weights = [0.0 if index == last else weight for index, weight in enumerate(WEIGHTS)]
    warm_start.main(command(tmp_path, rows(weights), batch_size=1, weight_decay=0.5, warmup=0.1))
    before, after = (tmp_path / "out" / "checkpoints" / f"checkpoint-{step}" for step in (3, 4))
    _assert_equal(trained(before), trained(after))
    one, other = (torch.load(path / "optimizer.pt", weights_only=True)["state"] for path in (before, after))
    assert len(one) == len(other) > 10
    for index, state in one.items():
        _assert_equal(state, other[index])
    assert [entry["mean_weight"] == 0 for entry in log(tmp_path)] == [False, False, False, True]


def test_evaluation_is_never_weighted(tmp_path: Path) -> None:
    """Neither at the end nor each epoch."""
    metrics, validation = [], []
    for weight in (1.0, 0.2, 0.0):
        rated = [
            tiny.row(n, split, weight=weight if n < 7 else 1.0)
            for n in (5, 6, 7, 8)
            for split in ("test", "valid")
        ]
        folder = tmp_path / str(weight)
        warm_start.main(command(folder, [*rows(WEIGHTS), *rated], best_by="MAE", epochs=2))
        metrics.append(json.loads((folder / "out" / "metrics.json").read_text()))
        lines = map(json.loads, (folder / "out" / "log.jsonl").read_text().splitlines())
        validation.append([entry for entry in lines if "eval_MAE" in entry])
    assert metrics[0] == metrics[1] == metrics[2]
    assert validation[0] == validation[1] == validation[2]
    assert metrics[0]["test"]["after"]["rows"] == 5
    assert len(validation[0]) == 2


def trained(folder: Path) -> Tensors:
    """Adapter and head of a folder."""
    return load_file(folder / "adapter_model.safetensors") | load_file(folder / "head.safetensors")


def _assert_equal(one: Tensors, other: Tensors) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name

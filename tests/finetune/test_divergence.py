"""A training that diverges ends before anything is lost, and rows that do not count can do no harm."""

from __future__ import annotations

import json
import math
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from finetune import evaluation
from finetune.divergence import Diverged, check_ratings
from finetune.inputs.batch import Encoded
from finetune.inputs.dataset import EncodedRows, EpochOrder
from finetune.model.heads import Regression
from finetune.model.regressor import SentimentModel
from tests import processes, tiny
from tests.finetune import warm_start

ROWS = [tiny.row(n) for n in range(4)]
TEST = tiny.row(9, "test")
TOO_LARGE = 3e38
"""A finite float32 label whose squared error is not."""


def command(folder: Path, rows: list[dict[str, Any]], **settings: Any) -> list[str]:
    """A row a step, each with a checkpoint, unless told otherwise."""
    store = tiny.store(folder / "store", [*rows, TEST])
    chosen = {"epochs": 1, "batch_size": 1, "warmup": 0, "save_every": 1, "log_every": 1}
    chosen |= {"lora_rank": 2, "video_fps": 10, "loss": "l2"} | settings
    options = [part for name, value in chosen.items() for part in (f"--finetune.{name}", str(value))]
    return ["--data", str(store), "--out", str(folder / "out"), *options]


def assert_sound(out: Path) -> None:
    """What is left is whole: finite checkpoints, strict JSON, no result."""
    for path in (out / "checkpoints").glob("*/*.safetensors"):
        assert all(bool(value.isfinite().all()) for value in load_file(path).values()), path
    for line in (out / "log.jsonl").read_text().splitlines() if (out / "log.jsonl").exists() else ():
        json.loads(line, parse_constant=pytest.fail)
    assert json.loads((out / "status.json").read_text())["state"] == "stopped"
    assert not (out / "model.json").exists()
    assert not (out / "metrics.json").exists()


def order() -> list[int]:
    """The order of four rows in the first epoch."""
    return list(EpochOrder(4, 1, seed=0))


def test_a_loss_that_is_not_finite_ends_the_run(tmp_path: Path) -> None:
    third = order()[2]
    rows = [row | {"label": TOO_LARGE} if number == third else row for number, row in enumerate(ROWS)]
    given = command(tmp_path, rows)
    message = rf"the loss is not finite in step 3, with the row {ROWS[third]['id']};.*checkpoint-2 is"
    with pytest.raises(Diverged, match=message):
        warm_start.main(given)
    assert_sound(tmp_path / "out")
    kept = sorted(path.parent.name for path in tmp_path.glob("out/checkpoints/*/whole.json"))
    assert kept == ["checkpoint-1", "checkpoint-2"]
    with pytest.raises(Diverged, match=message):  # the same command goes on from there, and says the same
        warm_start.main(given)


def test_the_first_step_may_be_the_one(tmp_path: Path) -> None:
    with pytest.raises(Diverged, match=r"not finite in step 1, .*there is no checkpoint yet"):
        warm_start.main(command(tmp_path, [row | {"label": TOO_LARGE} for row in ROWS], batch_size=4))
    assert_sound(tmp_path / "out")


def test_a_gradient_that_is_not_finite_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Regression.losses

    def steep(self: Regression, hidden: torch.Tensor, *args: Any) -> torch.Tensor:
        return plain(self, hidden, *args) + (hidden[:, -1, 0] * 0).abs().sqrt()  # 0, with an infinite slope

    monkeypatch.setattr(Regression, "losses", steep)
    with pytest.raises(Diverged, match="a gradient is not finite in step 1, with the rows tiny/train/"):
        warm_start.main(command(tmp_path, ROWS, batch_size=2))
    assert_sound(tmp_path / "out")


def test_a_weight_that_is_not_finite_is_never_saved(tmp_path: Path) -> None:
    first = ROWS[order()[0]]["id"]
    with pytest.raises(Diverged, match=rf"a weight is not finite in step 1, with the row {first};"):
        warm_start.main(command(tmp_path, ROWS, learning_rate=1e30, weight_decay=1e15))
    assert_sound(tmp_path / "out")
    assert not list(tmp_path.glob("out/checkpoints/*/whole.json"))


@pytest.mark.slow
def test_all_ranks_end_and_name_the_row_of_the_one(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rows = [row | {"label": TOO_LARGE} if number == 2 else row for number, row in enumerate(ROWS)]
    with pytest.raises(subprocess.CalledProcessError) as caught:
        processes.run_two("tests.finetune.warm_start", command(tmp_path, rows, batch_size=2))
    assert caught.value.returncode == 1
    said = capfd.readouterr().err
    assert f"error: finetune: the loss is not finite in step 1, with the row {ROWS[2]['id']};" in said
    assert_sound(tmp_path / "out")


def poisoned(monkeypatch: pytest.MonkeyPatch, row_id: str) -> None:
    """Let the towers' outputs of a row be infinite, and with them its hidden states."""
    plain = EncodedRows.many

    def many(self: EncodedRows, ids: list[str]) -> list[Encoded]:
        pairs = zip(ids, plain(self, ids), strict=True)
        return [infinite(encoded) if name == row_id else encoded for name, encoded in pairs]

    def infinite(encoded: Encoded) -> Encoded:
        names = [name for name in ("audio_embeds", "input_features") if getattr(encoded, name) is not None]
        return replace(encoded, **{name: getattr(encoded, name) * math.inf for name in names})

    monkeypatch.setattr(EncodedRows, "many", many)


def adapter(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "adapter_model.safetensors") | load_file(out / "head.safetensors")


@pytest.mark.parametrize(("batch_size", "accumulation"), [(4, 1), (1, 4)])
def test_a_row_of_weight_zero_does_not_count_even_where_its_hidden_state_is_infinite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch_size: int, accumulation: int
) -> None:
    rows = [ROWS[0] | {"weight": 0.0}, *ROWS[1:]]
    settings = {"batch_size": batch_size, "accumulation": accumulation}
    poisoned(monkeypatch, ROWS[0]["id"])
    warm_start.main(command(tmp_path / "poisoned", rows, **settings))
    warm_start.main(command(tmp_path / "absent", ROWS[1:], **settings))
    found, wanted = (adapter(tmp_path / name / "out") for name in ("poisoned", "absent"))
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-5)


def test_fillers_are_not_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three rows and steps of two: the second step has a row and a filler."""
    sizes = []
    plain = SentimentModel.forward

    def forward(self: SentimentModel, labels: torch.Tensor | None = None, **inputs: Any) -> torch.Tensor:
        if labels is not None:
            sizes.append(len(labels))
        return plain(self, labels, **inputs)

    monkeypatch.setattr(SentimentModel, "forward", forward)
    warm_start.main(command(tmp_path, ROWS[:3], batch_size=2))
    assert sizes == [2, 1]


def test_a_regression_heads_nan_is_no_answer_that_cannot_be_parsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = command(tmp_path, ROWS, epochs=1, batch_size=4)
    warm_start.main(given)
    before = (tmp_path / "out" / "metrics.json").read_text()
    poisoned(monkeypatch, TEST["id"])
    with pytest.raises(Diverged, match=rf"output is not finite for the row {TEST['id']}, so it has no"):
        evaluation.main(["--model", str(tmp_path / "out"), "--data", str(tmp_path / "store")])
    assert (tmp_path / "out" / "metrics.json").read_text() == before


def test_ratings_are_told_of_by_the_first_ids() -> None:
    class Head:
        head = None

    ids = [f"c/{number}" for number in range(10)]
    check_ratings(Head(), ids, [0.0] * 10)
    with pytest.raises(Diverged, match=r"for the rows c/0, .*, c/7 and 2 more, so"):
        check_ratings(Head(), ids, [math.nan] * 10)
    with pytest.raises(Diverged, match=r"for the row c/3, so"):
        check_ratings(Head(), ids, [[0.0, math.inf if number == 3 else 1.0] for number in range(10)])

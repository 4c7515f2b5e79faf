"""Under accelerate's FSDP two processes train as one, with half of the language model in each.

The runs are real: `accelerate launch --use_fsdp`, two processes, gloo. That accelerate leaves FSDP to
accelerators is stood in for by `tests.fsdp_on_cpu`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from finetune.__main__ import main
from finetune.evaluation import main as evaluate
from finetune.model.fsdp import check_fsdp
from finetune.settings import FinetuneConfig
from pipelines.errors import UsageError
from tests import processes, tiny
from tests.finetune import test_what_must_hold as command

FILES = ("adapter_model.safetensors", "head.safetensors")
START = "tests.fsdp_on_cpu"
FSDP = ("--use_fsdp", "--fsdp_version", "2")
VALID = [tiny.row(n, "valid") for n in range(3)]  # no even share for two
SETTINGS = {
    "epochs": 4,
    "batch_size": 2,
    "best_by": "MAE",
    "head_learning_rate": 1.0,
    "max_grad_norm": 0.5,  # so that gradients are clipped
    "conflict": json.dumps({"threshold": 1.0}),  # its hooks sit on the same modules
}


def arguments(folder: Path, **settings: Any) -> list[str]:
    """Two steps an epoch on one process, one of its batches on two; epochs are rated on three rows."""
    given = [*command.rows([1.0, 0.0, 0.7, 0.3]), *VALID]
    return command.command(folder, given, **SETTINGS | settings)


def two(folder: Path, **settings: Any) -> list[dict[str, Any]]:
    """Train on two processes, the same steps as one; what each tells of what it holds."""
    chosen = arguments(folder, batch_size=1, **settings)
    lines = processes.run_two(START, chosen, FSDP).splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def log(folder: Path, name: str) -> list[float]:
    entries = map(json.loads, (folder / "out" / "log.jsonl").read_text().splitlines())
    return [entry[name] for entry in entries if name in entry]


def metrics(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "out" / "metrics.json").read_text())


def assert_same_ends(one: Path, other: Path, tolerance: float) -> None:
    """The files of adapter and head, to a tolerance in units of their largest value."""
    for name in FILES:
        if not (one / "out" / name).exists():
            continue
        values, others = load_file(one / "out" / name), load_file(other / "out" / name)
        assert values.keys() == others.keys()
        largest = max(float(value.abs().max()) for value in values.values())
        for key, value in values.items():
            assert value.dtype == others[key].dtype
            torch.testing.assert_close(others[key], value, rtol=0, atol=tolerance * largest)


def assert_same_training(one: Path, other: Path, steps: int) -> None:
    assert len(log(one, "loss")) == steps
    for name in ("loss", "grad_norm", "eval_MAE"):
        assert log(other, name) == pytest.approx(log(one, name), rel=1e-5)
    assert metrics(other)["kept"] == metrics(one)["kept"]
    assert_same_ends(one, other, 1e-5)


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """A run under FSDP that nothing interrupted, and what its processes told."""
    folder = tmp_path_factory.mktemp("straight")
    return folder, two(folder)


def test_two_processes_train_as_one(straight: tuple[Path, Any], tmp_path: Path) -> None:
    """Losses, norms of gradients, ratings of each epoch, the epoch that is kept, adapter and head."""
    main(arguments(tmp_path))
    assert_same_training(tmp_path, straight[0], 8)
    assert max(log(tmp_path, "grad_norm")) > 0.5, "no gradient was clipped"


def test_each_process_holds_half_of_the_language_model(straight: tuple[Path, Any]) -> None:
    found = straight[1]
    assert len(found) == 2
    for told in found:
        assert 0.45 < told["held"] / told["all"] < 0.55
        assert told["trained_whole"] == 0
        assert told["towers_whole"] == told["towers"] > 0


def test_a_model_that_was_trained_so_is_opened_by_one_process(straight: tuple[Path, Any]) -> None:
    folder = straight[0]
    before = metrics(folder)["test"]["after"]["MAE"]
    evaluate(["--model", str(folder / "out"), "--data", str(folder / "store")])
    assert metrics(folder)["test"]["after"]["MAE"] == before


@pytest.mark.slow
def test_stopped_by_a_signal_it_goes_on_to_the_same_end(straight: tuple[Path, Any], tmp_path: Path) -> None:
    own = arguments(tmp_path, batch_size=1)
    checkpoints = tmp_path / "out" / "checkpoints"
    code, said = processes.terminate(
        START,
        own,
        once=lambda: list(checkpoints.glob("checkpoint-*/whole.json")),
        ranks=2,
        launcher=FSDP,
    )
    assert code
    assert "SIGTERM stopped the training" in said
    assert not (tmp_path / "out" / "model.json").exists()
    processes.run_two(START, own, FSDP)
    assert log(tmp_path, "loss") == log(straight[0], "loss")
    assert metrics(tmp_path) == metrics(straight[0])
    assert_same_ends(straight[0], tmp_path, 0)


@pytest.mark.slow
def test_a_base_in_bfloat16_and_a_head_that_starts_as_a_ridge_regression(tmp_path: Path) -> None:
    """The head is written into what is cut up already; what is trained is float32 in layers of bfloat16."""
    settings = {"head_start": "ridge", "head_learning_rate": 0.01, "learning_rate": 1e-4}
    settings |= {"precision": "bfloat16", "epochs": 1}
    # In the same order, so that rounding is the same.
    processes.run_two("finetune", arguments(tmp_path / "ddp", batch_size=1, **settings))
    two(tmp_path / "fsdp", **settings)
    assert metrics(tmp_path / "fsdp")["valid"]["before"] == metrics(tmp_path / "ddp")["valid"]["before"]
    assert_same_training(tmp_path / "ddp", tmp_path / "fsdp", 2)


@pytest.mark.slow
def test_an_answer_is_trained_and_generated_over_accumulated_batches(tmp_path: Path) -> None:
    settings = {"head": "answer", "accumulation": 2, "gradient_checkpointing": True}
    main(arguments(tmp_path / "one", **settings))
    two(tmp_path / "fsdp", **settings)
    assert_same_training(tmp_path / "one", tmp_path / "fsdp", 4)


@pytest.mark.parametrize(
    ("environment", "setting", "told"),
    [
        ({"FSDP_VERSION": "1"}, {}, "accelerate: got fsdp_version: 1; takes 2"),
        (
            {"FSDP_ACTIVATION_CHECKPOINTING": "true"},
            {},
            "got fsdp_activation_checkpointing: true; .* finetune.gradient_checkpointing",
        ),
        ({"FSDP_OFFLOAD_PARAMS": "true"}, {}, "got fsdp_offload_params: true; takes false"),
        ({"FSDP_RESHARD_AFTER_FORWARD": "false"}, {}, "got fsdp_reshard_after_forward: false; takes true"),
        ({"FSDP_AUTO_WRAP_POLICY": "SIZE_BASED_WRAP"}, {}, "got fsdp_auto_wrap_policy: SIZE_BASED_WRAP, .*"),
        (
            {"FSDP_TRANSFORMER_CLS_TO_WRAP": "Qwen2_5OmniVisionBlock"},
            {},
            "got fsdp_transformer_layer_cls_to_wrap: Qwen2_5OmniVisionBlock; takes none",
        ),
        ({"FSDP_IGNORED_MODULES": ".*visual"}, {}, "got fsdp_ignored_modules; takes none"),
        ({}, {"quantize": "nf4"}, "finetune.quantize: got nf4, .*; take none"),
        (
            {},
            {"adapt": ("language", "vision")},
            r"finetune.adapt: got language, vision .* takes \[language\]",
        ),
    ],
    ids=[
        "version 1",
        "checkpointing",
        "offload",
        "not resharded",
        "by size",
        "by name",
        "ignored",
        "4 bits",
        "trained towers",
    ],
)
def test_what_does_not_go_together_is_refused(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], setting: dict[str, Any], told: str
) -> None:
    for name, value in ({"FSDP_VERSION": "2"} | environment).items():
        monkeypatch.setenv(name, value)
    config = FinetuneConfig(**setting)
    check_fsdp(config)  # not under FSDP
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(UsageError, match=told):
        check_fsdp(config)
    for name in environment:
        monkeypatch.delenv(name)
    monkeypatch.setenv("FSDP_VERSION", "2")
    check_fsdp(FinetuneConfig())

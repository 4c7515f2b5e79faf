"""What the Trainer is told, and what is refused."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from finetune.__main__ import main
from finetune.model.regressor import SentimentModel
from finetune.settings import FinetuneConfig, Tracker
from finetune.training import arguments as trainer_settings
from finetune.training.arguments import training_arguments
from finetune.training.trainer import WeightedTrainer
from pipelines.errors import UsageError
from tests import tiny


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tiny.store(tmp_path / "store", [tiny.row(0), tiny.row(1), tiny.row(0, "test")])


def test_trackers_reach_the_trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert training_arguments(FinetuneConfig(device="cpu"), tmp_path, 0).report_to == []
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    chosen: tuple[Tracker, ...] = ("tensorboard", "wandb")
    config = FinetuneConfig(device="cpu", trackers=chosen)
    assert training_arguments(config, tmp_path, 0).report_to == list(chosen)


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "trackio"])
def test_a_tracker_that_is_not_installed_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Before anything is written, with the line that installs it."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda found: None)
    store = tiny.store(tmp_path / "store", [tiny.row(0), tiny.row(1, "test")])
    wanted = rf"finetune.trackers: got {name}, which is not installed; pip install 'daq-msa\[trackers\]'"
    with pytest.raises(UsageError, match=wanted):
        main(["--data", str(store), "--out", str(tmp_path / "out"), "--finetune.trackers", f"[{name}]"])
    assert not (tmp_path / "out").exists()


def test_fsdp_of_version_1_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is written."""
    store = tiny.store(tmp_path / "store", [tiny.row(0), tiny.row(1, "test")])
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")  # as accelerate launch --use_fsdp
    with pytest.raises(UsageError, match="accelerate: got fsdp_version: 1; takes 2"):
        main(["--data", str(store), "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="GPUs are made up; the model stays on the CPU")
def test_a_process_that_sees_several_gpus_uses_one(
    store: Path,
    tiny_thinker: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """And says so. The Trainer counts the GPUs that torch tells of, though here it computes on the CPU."""
    arguments = ["--data", str(store), "--finetune.model", str(tiny_thinker), "--finetune.epochs", "1"]
    main([*arguments, "--out", str(tmp_path / "none")])
    assert "GPUs" not in capsys.readouterr().out
    wrapped: list[torch.nn.Module] = []
    wrap = WeightedTrainer._wrap_model

    def noted(trainer: WeightedTrainer, *args: Any, **kwargs: Any) -> torch.nn.Module:
        wrapped.append(wrap(trainer, *args, **kwargs))
        return wrapped[-1]

    monkeypatch.setattr(WeightedTrainer, "_wrap_model", noted)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(trainer_settings, "pick", lambda device: "cuda:0")
    main([*arguments, "--out", str(tmp_path / "four")])
    assert [type(model) for model in wrapped] == [SentimentModel]
    told = "uses 1 of 4 GPUs; `accelerate launch --multi_gpu --num_processes 4 -m finetune` with the same"
    assert told in capsys.readouterr().out
    weights = [load_file(tmp_path / name / "head.safetensors")["weight"] for name in ("none", "four")]
    assert torch.equal(*weights)


@pytest.mark.parametrize(("stage", "refused"), [(1, False), (2, False), (3, True)])
def test_of_deepspeed_stage_3_is_refused(stage: int, refused: bool) -> None:
    arguments: Any = SimpleNamespace(deepspeed_plugin=SimpleNamespace(zero_stage=stage, deepspeed_config={}))
    if refused:
        with pytest.raises(UsageError, match="got DeepSpeed ZeRO stage 3"):
            trainer_settings._check_launcher(arguments)
    else:
        trainer_settings._check_launcher(arguments)


@pytest.mark.parametrize("config", [{"bf16": {"enabled": True}}, {"bf16": {"enabled": "auto"}}, {}])
def test_half_precision_of_what_is_trained_is_refused_under_deepspeed(
    config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether accelerate was told so or DeepSpeed."""
    plugin = SimpleNamespace(zero_stage=2, deepspeed_config=config)
    arguments: Any = SimpleNamespace(deepspeed_plugin=plugin)
    if config != {"bf16": {"enabled": True}}:
        trainer_settings._check_launcher(arguments)
        monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    with pytest.raises(UsageError, match=r"got mixed_precision: bf16 under DeepSpeed, .* finetune.precision"):
        trainer_settings._check_launcher(arguments)

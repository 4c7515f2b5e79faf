"""What the frozen model is computed in, on GPUs that are pretended."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from finetune import evaluation, merging
from finetune.__main__ import main
from finetune.fusion.settings import TrainingSettings
from finetune.fusion.tracking import make_accelerator
from finetune.model.saved_model import base_dtype, dtype_description
from finetune.settings import FinetuneConfig
from pipelines.durable.checkpoints import read_json_object
from pipelines.errors import UsageError
from tests import tiny
from tests.gpus import pretend_gpus

OLD, NEW = (7, 5), (8, 0)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.store(tmp_path_factory.mktemp("store"), [tiny.row(0), tiny.row(1), tiny.row(0, "test")])


@pytest.mark.parametrize(
    ("capability", "dtype", "told"),
    [
        (OLD, torch.float32, "float32 (cuda:0 does not compute in bfloat16)"),
        (NEW, torch.bfloat16, "bfloat16"),
    ],
)
def test_auto_is_bfloat16_on_a_gpu_that_has_it(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], dtype: torch.dtype, told: str
) -> None:
    pretend_gpus(monkeypatch, 1, capability)
    assert base_dtype(FinetuneConfig()) == dtype
    assert dtype_description(FinetuneConfig()) == told


def test_bfloat16_is_refused_on_a_gpu_without_it(
    monkeypatch: pytest.MonkeyPatch, store: Path, tmp_path: Path
) -> None:
    """Before anything is written. On the CPU it is slow and is taken."""
    assert base_dtype(FinetuneConfig(precision="bfloat16", device="cpu")) == torch.bfloat16
    pretend_gpus(monkeypatch, 1, OLD)
    with pytest.raises(
        UsageError, match=r"finetune.precision: got bfloat16, and cuda:0 .*; take auto or float32"
    ):
        main(["--data", str(store), "--out", str(tmp_path / "out"), "--finetune.precision", "bfloat16"])
    assert not (tmp_path / "out").exists()


def test_so_is_mixed_precision_of_the_fusion_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pretend_gpus(monkeypatch, 1, OLD)
    with pytest.raises(
        UsageError, match=r"fusion.training.precision: got bf16, and cuda:0 .*; take no or fp16"
    ):
        make_accelerator(TrainingSettings(precision="bf16"), tmp_path)


def test_the_run_tells_what_its_base_model_is_in(
    capsys: pytest.CaptureFixture[str], store: Path, tiny_thinker: Path, tmp_path: Path
) -> None:
    arguments = ["--data", str(store), "--out", str(tmp_path), "--finetune.model", str(tiny_thinker)]
    main([*arguments, "--finetune.epochs", "1", "--finetune.precision", "bfloat16"])
    assert "(2 original), base model in bfloat16\n" in capsys.readouterr().out


@pytest.mark.parametrize("precision", ["auto", "float32"])
@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_flash_attention_takes_no_float32(
    store: Path, tmp_path: Path, precision: str, more: list[str]
) -> None:
    """On a CPU, auto is float32. It is refused before the model is looked for and anything is written."""
    settings = {"model": "nowhere", "attention": "flash_attention_2", "precision": precision, "device": "cpu"}
    given = [part for name, value in settings.items() for part in (f"--finetune.{name}", value)]
    wanted = (
        rf"finetune.attention: got flash_attention_2, .* finetune.precision: {precision} is float32 on cpu"
    )
    with pytest.raises(UsageError, match=wanted):
        main(["--data", str(store), "--out", str(tmp_path / "out"), *given, *more])
    assert not (tmp_path / "out").exists()


def test_a_model_that_was_trained_with_flash_attention_is_opened_without(
    store: Path, tiny_thinker: Path, tmp_path: Path
) -> None:
    """On a CPU it is evaluated and merged, by code that computes the same."""
    out, model = tmp_path / "out", str(tiny_thinker)
    arguments = ["--finetune.model", model, "--finetune.epochs", "1", "--finetune.device", "cpu"]
    main(["--data", str(store), "--out", str(out), *arguments])
    before = _metrics(out)
    record = read_json_object(out / "model.json")
    record["config"]["attention"] = "flash_attention_2"
    (out / "model.json").write_text(json.dumps(record))
    evaluation.main(["--model", str(out), "--data", str(store), "--device", "cpu"])
    assert _metrics(out) == before
    merging.merge(out, tmp_path / "merged")
    assert (tmp_path / "merged" / "model.safetensors").is_file()


def _metrics(out: Path) -> dict[str, Any]:
    return json.loads((out / "metrics.json").read_text())

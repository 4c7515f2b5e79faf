"""The benchmark: it runs, and says what it could not measure."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import nn

from benchmarks.fusion import speed
from pipelines.errors import UsageError


def test_measures_ours_alone_where_mmsa_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nothing = SimpleNamespace(util=SimpleNamespace(find_spec=lambda _: None))
    monkeypatch.setattr(speed, "importlib", nothing)
    speed.main(["--out", str(tmp_path), "--steps", "2"])
    report = json.loads((tmp_path / "benchmark.json").read_text())
    assert report["mult"] is None
    assert set(report["bookkeeping"]) == set(speed.BOOKKEEPING)
    assert report["epoch_s"] == pytest.approx(81 * report["step_s"]["both, a conflict at every step"])
    assert "MMSA is not installed; pip install MMSA==2.2.1" in capsys.readouterr().out


class Slow(nn.Module):
    """Takes the place of MulT."""

    def __init__(self, settings: SimpleNamespace) -> None:
        super().__init__()
        self.layer = nn.Linear(768, 1)

    def forward(
        self, text: torch.Tensor, audio: torch.Tensor, video: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        assert (audio.shape[1:], video.shape[1:]) == ((500, 5), (375, 20))
        return {"M": self.layer(text.mean(1))}


def test_a_step_of_mult_trains_it(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = SimpleNamespace(learning_rate=0.1, weight_decay=0.0, grad_clip=0.6)
    package, module = ModuleType("MMSA"), ModuleType("MMSA.models.singleTask.MULT")
    made: list[Slow] = []
    package.get_config_regression = lambda model, data: settings  # type: ignore[attr-defined]
    module.MULT = lambda found: made.append(Slow(found)) or made[0]  # type: ignore[attr-defined]
    for name, found in {"MMSA": package, module.__name__: module}.items():
        monkeypatch.setitem(sys.modules, name, found)
    for name in ("MMSA.models", "MMSA.models.singleTask"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    features = speed.made_features(4)
    batch = speed.batch_of(features.splits["train"], speed.np.arange(4), torch.device("cpu"))
    step = speed.mult_step([batch])
    before = made[0].layer.weight.detach().clone()
    step(0)
    assert not torch.equal(made[0].layer.weight, before)


def test_conflicts_are_in_every_step_or_in_none() -> None:
    features = speed.made_features(8)
    batch = speed.batch_of(features.splits["train"], speed.np.arange(8), torch.device("cpu"))
    for name, found in {"both, no conflict": False, "both, a conflict at every step": True}.items():
        step = speed.trainer_step(features, [batch], speed.BOOKKEEPING[name])
        _, conflict = step(0)  # type: ignore[misc]
        assert conflict.detected is found  # type: ignore[attr-defined]
        assert (min(conflict.factors.values()) < 1) is found  # type: ignore[attr-defined]


def test_names_a_number_out_of_range(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--mult-steps: got 0, takes 1 or more"):
        speed.main(["--out", str(tmp_path), "--mult-steps", "0"])

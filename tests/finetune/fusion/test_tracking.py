"""Trackers: each epoch reaches them, and one that is missing is named."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from accelerate import Accelerator

from finetune import settings
from finetune.fusion import tracking
from finetune.fusion.__main__ import main
from finetune.fusion.tracking import flat
from pipelines.errors import UsageError
from tests.finetune.fusion.made import mmsa_content, write


def command(tmp_path: Path, *names: str) -> list[str]:
    data = write(tmp_path / "features.pkl", mmsa_content())
    given = ["--data", str(data), "--out", str(tmp_path / "out"), "--fusion.seeds", "[1]"]
    given += ["--fusion.training.epochs", "3", "--fusion.network.width", "8", "--fusion.network.heads", "2"]
    return [*given, "--fusion.training.device", "cpu", "--fusion.training.trackers", f"[{','.join(names)}]"]


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "trackio"])
def test_one_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    nothing = SimpleNamespace(util=SimpleNamespace(find_spec=lambda _: None))
    monkeypatch.setattr(settings, "importlib", nothing)
    wanted = (
        rf"fusion.training.trackers: got {name}, which is not installed; pip install 'daq-msa\[trackers\]'"
    )
    with pytest.raises(UsageError, match=wanted):
        main(command(tmp_path, name))
    assert not (tmp_path / "out").exists()


def test_each_epoch_reaches_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, dict[str, Any]]] = []
    begun: list[str] = []
    monkeypatch.setattr(Accelerator, "init_trackers", lambda self, name: begun.append(name))
    monkeypatch.setattr(Accelerator, "log", lambda self, values, step: told.append((step, values)))
    main(command(tmp_path))
    lines = (tmp_path / "out" / "seed-1" / "history.jsonl").read_text().splitlines()
    history = [json.loads(line) for line in lines]
    assert begun == [tracking.PROJECT]
    assert told == [(record["epoch"], flat(record)) for record in history]
    assert told[0][1]["valid_mae"] == history[0]["valid_mae"]
    assert told[0][1]["losses/task"] == history[0]["losses"]["task"]


def test_what_has_no_value_is_left_out() -> None:
    record = {"epoch": 2, "valid_mae": 0.5, "ratios": {"text": None, "audio": 1.5}}
    assert flat(record) == {"valid_mae": 0.5, "ratios/audio": 1.5}

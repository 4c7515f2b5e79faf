"""The ridge regression on means over time: its pooling, and what it prints."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.fusion import ridge_baseline
from finetune.fusion.features import convert
from finetune.fusion.features.mmsa_pickle import from_pickle
from tests.finetune.fusion.made import mmsa_content, write


def test_pools_what_the_mask_shows_by_training_standards(tmp_path: Path) -> None:
    content = mmsa_content()
    content["test"]["vision"][0] = 0
    content["test"]["vision_lengths"][0] = 0
    features = from_pickle(write(tmp_path / "features.pkl", content), ("video",))
    found = ridge_baseline.pooled(features, "test", "video")
    standard, length = features.standards["video"], content["test"]["vision_lengths"][1]
    shown = (content["test"]["vision"][1, :length] - standard.mean) / standard.deviation
    np.testing.assert_allclose(found[1], shown.mean(0), atol=1e-5)
    assert not found[0].any()


def test_prints_a_line_for_each_modality_and_for_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    convert.convert(write(tmp_path / "features.pkl", mmsa_content((200, 60, 60))), tmp_path / "f.safetensors")
    ridge_baseline.main(["--data", str(tmp_path / "f.safetensors")])
    lines = capsys.readouterr().out.splitlines()
    figures = {line.split()[0]: float(line.split()[1]) for line in lines[1:]}
    assert list(figures) == ["text", "audio", "video", "all"]
    assert figures["text"] > max(figures["audio"], figures["video"])
    assert figures["all"] > 0.8

"""Chatterbox against a stand-in that has its interface: lengths, seeds, and what becomes of its watermark."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from augment import planning
from augment.__main__ import main
from augment.audio import variants
from augment.audio.chatterbox import Chatterbox
from augment.audio.settings import AudioSettings, ChatterboxSettings
from pipelines import media
from pipelines.errors import UsageError
from pipelines.row import media as in_row
from pipelines.runner import StageFailed
from pipelines.store import StoreReader
from tests import tiny
from tests.tiny_voices import voiced

RATE = 16_000
SOURCE, REFERENCE = voiced(0.77, 120), voiced(1.5, 210, level=0.1)


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "stand_ins"))
    from chatterbox import vc

    monkeypatch.setattr(vc, "LOADED", [])
    yield vc
    for name in ("chatterbox", "chatterbox.vc"):
        sys.modules.pop(name, None)


def settings_of(**changes: Any) -> AudioSettings:
    return AudioSettings(method="chatterbox", chatterbox=ChatterboxSettings(**changes))


def test_one_model_converts_all_and_the_seed_decides(package: ModuleType) -> None:
    converter = Chatterbox(settings_of(), "cpu")
    before = torch.get_rng_state()
    first, again, other = (converter(SOURCE, REFERENCE, RATE, seed=seed)[0] for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    # Whole tokens are 0.02 s too short here.
    assert first.shape == SOURCE.shape
    assert first.std() == pytest.approx(SOURCE.std(), rel=0.02)
    assert package.LOADED == [("the Hub", "cpu")]


@pytest.mark.parametrize(
    ("marked", "watermark", "told"),
    [(False, "off", "none"), (False, "keep", "none"), (True, "off", "left out"), (True, "keep", "kept")],
)
def test_a_watermark_is_left_out_unless_it_is_kept(
    package: ModuleType, monkeypatch: pytest.MonkeyPatch, marked: bool, watermark: str, told: str
) -> None:
    monkeypatch.setattr(package, "MARKED", marked)
    made, details = Chatterbox(settings_of(watermark=watermark), "cpu")(SOURCE, REFERENCE, RATE, seed=1)
    assert details == json.loads(json.dumps(details))
    assert details["watermark"].startswith(told)
    # The stand-in's mark is a constant, at the reference's loudness.
    assert (made.mean() > 2e-3) == (told == "kept")


def test_wrong_answers_are_reasons(package: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    converter = Chatterbox(settings_of(), "cpu")
    with pytest.raises(ValueError, match="reference: silent"):
        converter(SOURCE, np.zeros(RATE, np.float32), RATE, seed=1)
    monkeypatch.setattr(package, "BEHAVIOUR", "nan")
    with pytest.raises(ValueError, match="Chatterbox's answer: 1 of 18240 samples are not finite"):
        converter(SOURCE, REFERENCE, RATE, seed=1)


def test_what_is_missing_is_named(
    package: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match=r"chatterbox\.folder: its weights cannot be loaded from .*nowhere"):
        Chatterbox(settings_of(folder=str(tmp_path / "nowhere")), "cpu")
    monkeypatch.setitem(sys.modules, "chatterbox.vc", None)
    with pytest.raises(UsageError, match=r"chatterbox cannot be imported .*pip install 'daq-msa\[voices\]'"):
        Chatterbox(settings_of(), "cpu")


def test_a_key_follows_watermark_and_weights_alone(tmp_path: Path) -> None:
    (tmp_path / "s3gen.safetensors").write_bytes(b"weights")
    plain, keep = planning.settings(settings_of()), planning.settings(settings_of(watermark="keep"))
    local = planning.settings(settings_of(folder=str(tmp_path)))
    assert len({json.dumps(each) for each in (plain, keep, local)}) == 3
    assert str(tmp_path) not in json.dumps(local)
    other_method = AudioSettings(method="chatterbox", steps=3, model="x")
    assert planning.settings(other_method) == plain


def test_the_stage_rejects_what_failed_and_the_card_tells_of_the_mark(
    package: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(package, "MARKED", True)
    rows = [
        tiny.row(number, group=f"speaker{number}", audio=in_row(media.encode_audio(voiced(0.9, 120))))
        for number in range(2)
    ]
    originals, out = tiny.store(tmp_path / "originals", rows), tmp_path / "out"
    audio = ["--augment.audio.method", "chatterbox", "--augment.audio.chatterbox.watermark", "keep"]
    stage = ["--data", str(originals), "--out", str(out), "--augment.device", "cpu"]
    command = [*stage, "--augment.video.variants", "0", *audio]
    monkeypatch.setattr(package, "BEHAVIOUR", "crash")
    with pytest.raises(StageFailed, match="all 2 rows failed alike, with RuntimeError: CUDA out of memory"):
        main(command)
    monkeypatch.setattr(package, "BEHAVIOUR", "convert")
    main(command)
    made = [row for row in StoreReader(out).rows() if row["kind"] == "audio"]
    assert len(made) == 2
    for row in made:
        assert media.read_audio(row["audio"]["bytes"]).shape == (14_400,)
        assert json.loads(row["generator"])["audio"]["watermark"] == "kept: Watermarker"
    (note,) = variants.notes(settings_of(watermark="keep"))
    assert note in (out / "README.md").read_text()
    assert "bears Chatterbox' inaudible watermark" in note

"""Whole runs: each head from training to a rating of one clip; kept towers change nothing but time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
import torch

from finetune import evaluation, prediction
from finetune.__main__ import main
from finetune.inputs.batch import collate
from finetune.model import towers
from finetune.model.saved_model import open_model
from finetune.tower_cache import fill
from pipelines.errors import UsageError
from pipelines.store import StoreReader
from tests import tiny


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [tiny.row(n) for n in range(4)] + [tiny.variant(n, 0.5) for n in range(4)]
    rows[1] |= {"video": None}
    rows[2] |= {"audio": None}
    return tiny.store(tmp_path_factory.mktemp("store"), rows + [tiny.row(n, "test") for n in range(3)])


def arguments(store: Path, model: object, out: Path, **settings: Any) -> list[str]:
    chosen = {"model": model, "epochs": 2, "batch_size": 4, "lora_rank": 2, "log_every": 1} | settings
    given = [part for name, value in chosen.items() for part in (f"--finetune.{name}", str(value))]
    return ["--data", str(store), "--out", str(out), *given]


def losses(out: Path) -> list[float]:
    lines = (out / "log.jsonl").read_text().splitlines()
    return [entry["loss"] for entry in map(json.loads, lines) if "loss" in entry]


@pytest.mark.parametrize("head", ["regression", "classes", "levels", "answer"])
def test_a_head_trains_is_saved_and_rates(
    head: str, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(arguments(store, "embedded", tmp_path, head=head, epochs=8))
    found = losses(tmp_path)
    assert sum(found[-4:]) < 0.97 * sum(found[:4])
    assert (tmp_path / "head.safetensors").exists() == (head in ("regression", "classes"))
    after = json.loads((tmp_path / "metrics.json").read_text())["test"]["after"]
    # In the run's batches: in others the last bits differ, and with them a rounded metric.
    evaluation.main(["--model", str(tmp_path), "--data", str(store), "--batch_size", "4"])
    assert json.loads((tmp_path / "metrics.json").read_text())["test"]["after"] == after
    capsys.readouterr()
    prediction.main(["--model", str(tmp_path), "--text", "a good film", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert (head == "answer" and told["rating"] is None) or -3 <= told["rating"] <= 3
    ratings = pyarrow.parquet.read_table(tmp_path / "predictions.parquet")["prediction"].to_pylist()
    if head == "classes":
        assert {rating % 1 for rating in ratings} == {0}


def test_an_answer_that_is_none_counts_as_the_middle(store: Path, tmp_path: Path) -> None:
    """The untuned small model writes no numbers."""
    main(arguments(store, "embedded", tmp_path, head="answer", epochs=1))
    before = json.loads((tmp_path / "metrics.json").read_text())["test"]["before"]
    labels = [row["label"] for row in StoreReader(store).rows() if row["split"] == "test"]
    assert (before["rows"], before["unparsable"]) == (3, 3)
    assert before["MAE"] == pytest.approx(sum(map(abs, labels)) / 3, abs=1e-3)


def test_generating_is_what_transformers_generates(store: Path, tmp_path: Path) -> None:
    main(arguments(store, "embedded", tmp_path, head="answer", epochs=1))
    model, encoder, _ = open_model(tmp_path, "cpu")
    texts = [row | {"video": None, "audio": None} for row in StoreReader(store).rows()]
    batch = collate([encoder(row) for row in texts], encoder.processor.tokenizer.pad_token_id)
    with torch.no_grad():
        own = model.generated(**batch)
        asked = {name: batch[name] for name in ("input_ids", "attention_mask")}
        settings = {"max_new_tokens": own.shape[1], "do_sample": False, "eos_token_id": None}
        made = model.base.generate(**asked, **settings)[:, batch["input_ids"].shape[1] :]
    assert torch.equal(own, made)


def test_generating_with_kept_towers_is_generating_with_the_towers(store: Path, tmp_path: Path) -> None:
    main(arguments(store, "embedded", tmp_path, head="answer", epochs=1))
    model, encoder, _ = open_model(tmp_path, "cpu")
    rows = [encoder(row) for row in StoreReader(store).rows()]
    batch = collate(rows, encoder.processor.tokenizer.pad_token_id)
    with torch.no_grad():
        together = model.generated(**batch)
        alone = torch.cat([model.generated(**collate([row], 0)) for row in rows])
        kept = model.generated(**towers.encode_media(model.base, **batch))
    assert torch.equal(together, alone)
    assert torch.equal(together, kept)


@pytest.mark.parametrize("head", ["regression", "answer"])
def test_kept_towers_train_as_towers_that_are_asked(
    head: str, store: Path, tiny_thinker: Path, tmp_path: Path
) -> None:
    for name in ("none", "auto"):
        main(arguments(store, tiny_thinker, tmp_path / name, head=head, tower_cache=name))
    assert losses(tmp_path / "auto") == pytest.approx(losses(tmp_path / "none"), rel=1e-4)
    assert list((tmp_path / "auto" / "towers").glob("*.safetensors"))
    assert not (tmp_path / "none" / "towers").exists()


def test_a_cache_filled_ahead_is_asked_and_the_towers_are_not(
    store: Path, tiny_thinker: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ["--finetune.model", str(tiny_thinker)]
    fill.main(["--data", str(store), "--out", str(tmp_path / "towers"), *settings])
    before = sorted((tmp_path / "towers").iterdir())

    def refuse(*_: Any) -> Any:
        raise AssertionError("a tower was asked")

    monkeypatch.setattr(towers, "encode_video", refuse)
    monkeypatch.setattr(towers, "encode_audio", refuse)
    main(arguments(store, tiny_thinker, tmp_path / "out", tower_cache=tmp_path / "towers"))
    assert sorted((tmp_path / "towers").iterdir()) == before


def test_processes_fill_a_cache_together(
    store: Path, tiny_thinker: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    command = ["--data", str(store), "--out", str(tmp_path), "--finetune.model", str(tiny_thinker)]
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        fill.main(command)
    monkeypatch.setenv("WORLD_SIZE", "1")
    monkeypatch.setenv("RANK", "0")
    before = sorted(tmp_path.iterdir())
    fill.main(command)
    assert sorted(tmp_path.iterdir()) == before


def test_a_cache_inside_the_store_that_is_read_is_refused(store: Path) -> None:
    with pytest.raises(UsageError, match=r"--out: .* is inside --data .*; name a folder outside it"):
        fill.main(["--data", str(store), "--out", str(store / "towers")])


def test_towers_that_are_trained_are_not_kept(store: Path, tiny_thinker: Path, tmp_path: Path) -> None:
    main(arguments(store, tiny_thinker, tmp_path / "out", adapt="[language,vision]", epochs=1))
    assert not (tmp_path / "out" / "towers").exists()
    with pytest.raises(UsageError, match=r"finetune\.adapt: got language, vision; only frozen towers"):
        fill.main(
            ["--data", str(store), "--out", str(tmp_path / "c"), "--finetune.adapt", "[language,vision]"]
        )
